-- Every key starts with the tenant, so that the schema can be distributed by it. Rows that belong to the tree are
-- versioned by layer: as of a layer, the newest version among it and its ancestors counts.
CREATE TABLE tarbox.tenants (
  tenant_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  name text NOT NULL UNIQUE,
  created_at timestamptz NOT NULL DEFAULT now(),
  working_layer bigint NOT NULL DEFAULT 1,
  -- Number of the last operation that is committed, and the first numbers not handed out.
  sequence bigint NOT NULL DEFAULT 0,
  next_ino bigint NOT NULL DEFAULT 2,
  next_cookie bigint NOT NULL DEFAULT 16,
  used_bytes bigint NOT NULL DEFAULT 0,
  used_inodes bigint NOT NULL DEFAULT 0,
  -- Who may write. Each commit updates this row on the condition that the epoch is still its own.
  lease_owner text,
  lease_epoch bigint NOT NULL DEFAULT 0,
  lease_expires timestamptz
) WITH (fillfactor = 50);

CREATE TABLE tarbox.layers (
  tenant_id bigint NOT NULL REFERENCES tarbox.tenants,
  layer_id bigint NOT NULL,
  parent_id bigint,
  name text NOT NULL,
  description text NOT NULL DEFAULT '',
  created_at timestamptz NOT NULL DEFAULT now(),
  frozen_at timestamptz,
  PRIMARY KEY (tenant_id, layer_id),
  UNIQUE (tenant_id, name)
);

CREATE TABLE tarbox.tags (
  tenant_id bigint NOT NULL,
  name text NOT NULL,
  layer_id bigint NOT NULL,
  PRIMARY KEY (tenant_id, name)
);

CREATE TABLE tarbox.inodes (
  tenant_id bigint NOT NULL,
  ino bigint NOT NULL,
  layer_id bigint NOT NULL,
  parent bigint NOT NULL,
  size bigint NOT NULL,
  allocated bigint NOT NULL,
  -- Nanoseconds since 1970.
  atime bigint NOT NULL,
  mtime bigint NOT NULL,
  ctime bigint NOT NULL,
  btime bigint NOT NULL,
  mode integer NOT NULL,
  nlink integer NOT NULL,
  -- Unsigned 32-bit numbers.
  uid oid NOT NULL,
  gid oid NOT NULL,
  rdev oid NOT NULL,
  -- A whiteout: gone as of this layer.
  deleted boolean NOT NULL DEFAULT false,
  target bytea,
  xattrs bytea,
  PRIMARY KEY (tenant_id, ino, layer_id)
) WITH (fillfactor = 90);

CREATE INDEX inodes_orphans ON tarbox.inodes (tenant_id, layer_id) WHERE nlink = 0;

CREATE TABLE tarbox.dentries (
  tenant_id bigint NOT NULL,
  parent bigint NOT NULL,
  layer_id bigint NOT NULL,
  -- Null is a whiteout: the name is gone as of this layer.
  ino bigint,
  -- Orders a directory's listing; unique within the tenant and kept for the life of the name.
  cookie bigint NOT NULL,
  type smallint NOT NULL,
  name bytea NOT NULL,
  PRIMARY KEY (tenant_id, parent, name, layer_id)
);

CREATE INDEX dentries_listing ON tarbox.dentries (tenant_id, parent, cookie);

CREATE TABLE tarbox.contents (
  tenant_id bigint NOT NULL,
  ino bigint NOT NULL,
  segment bigint NOT NULL,
  layer_id bigint NOT NULL,
  -- For each chunk its length (4 bytes, little-endian) and its hash (32 bytes); a length of 0 is a hole.
  chunks bytea,
  -- The bytes themselves of a tiny file.
  inline bytea,
  PRIMARY KEY (tenant_id, ino, segment, layer_id)
);
ALTER TABLE tarbox.contents ALTER chunks SET STORAGE MAIN, ALTER inline SET STORAGE MAIN;

CREATE TABLE tarbox.chunks (
  tenant_id bigint NOT NULL,
  hash bytea NOT NULL,
  -- 0: as they are; 1: zstd; 2: zstd with the chunk base_hash as its dictionary.
  codec smallint NOT NULL,
  raw_size integer NOT NULL,
  base_hash bytea,
  data bytea NOT NULL,
  PRIMARY KEY (tenant_id, hash)
);
-- What is stored is compressed already or doesn't compress.
ALTER TABLE tarbox.chunks ALTER hash SET STORAGE PLAIN, ALTER data SET STORAGE EXTERNAL;
