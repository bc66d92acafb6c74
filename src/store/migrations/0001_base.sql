-- Every key starts with the tenant, so that the schema can be distributed by it. Rows that belong to the tree are
-- versioned by layer: as of a layer, the newest version among it and its ancestors counts.
CREATE TABLE tarbox.tenants (
  tenant_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  name text NOT NULL UNIQUE,
  created_at timestamptz NOT NULL DEFAULT now(),
  -- The layer that takes writes, and the first numbers of layers and views not handed out.
  working_layer bigint NOT NULL DEFAULT 2,
  next_layer bigint NOT NULL DEFAULT 3,
  next_view bigint NOT NULL DEFAULT 1,
  -- The last switch since the mount was made.
  switched_from bigint,
  switched_to bigint,
  -- Number of the last operation that is committed, and the first numbers not handed out.
  sequence bigint NOT NULL DEFAULT 0,
  next_ino bigint NOT NULL DEFAULT 2,
  next_cookie bigint NOT NULL DEFAULT 16,
  used_bytes bigint NOT NULL DEFAULT 0,
  used_inodes bigint NOT NULL DEFAULT 1,
  -- Who may write. Each commit updates this row on the condition that the epoch is still its own.
  lease_owner text,
  lease_epoch bigint NOT NULL DEFAULT 0,
  -- The first of the epochs that this owner has had without another in between.
  lease_since bigint NOT NULL DEFAULT 0,
  -- Of the epoch's commits the last one carried out; one with a lower number comes too late.
  commit_number bigint NOT NULL DEFAULT 0,
  lease_expires timestamptz,
  -- How long its events are kept.
  audit_days integer
) WITH (fillfactor = 50);

CREATE TABLE tarbox.layers (
  tenant_id bigint NOT NULL REFERENCES tarbox.tenants,
  layer_id bigint NOT NULL,
  parent_id bigint,
  -- Null while it takes writes.
  name text,
  description text NOT NULL DEFAULT '',
  created_at timestamptz NOT NULL DEFAULT now(),
  frozen_at timestamptz,
  -- What was handed out before it began: inodes and names with lower numbers may have rows in layers below.
  first_ino bigint NOT NULL DEFAULT 2,
  first_cookie bigint NOT NULL DEFAULT 16,
  -- Of the whole tree as of this layer, once it's frozen.
  used_bytes bigint NOT NULL DEFAULT 0,
  used_inodes bigint NOT NULL DEFAULT 1,
  -- Whether what it replaced has been packed.
  packed boolean NOT NULL DEFAULT false,
  PRIMARY KEY (tenant_id, layer_id),
  UNIQUE (tenant_id, name) DEFERRABLE INITIALLY DEFERRED
);

CREATE TABLE tarbox.tags (
  tenant_id bigint NOT NULL,
  name text NOT NULL,
  layer_id bigint NOT NULL,
  PRIMARY KEY (tenant_id, name)
);

-- The last command that changed layers since the mount was made: the number of the request that carried it, and the
-- layer that it was about.
CREATE TABLE tarbox.commands (
  tenant_id bigint PRIMARY KEY,
  request bigint NOT NULL,
  layer_id bigint NOT NULL,
  name text NOT NULL
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

CREATE INDEX inodes_orphans ON tarbox.inodes (tenant_id, ino) WHERE nlink = 0;
-- What a layer changed. For statements that say that ids are positive: a lookup by key must not mistake it for the way
-- to go.
CREATE INDEX inodes_layer ON tarbox.inodes (tenant_id, layer_id) WHERE layer_id > 0;
CREATE INDEX inodes_whiteouts ON tarbox.inodes (tenant_id, layer_id) WHERE deleted;

-- Files that a switch changed while the kernel may have them open: its number for the version before is an earlier view
-- of the inode, which is the tree as of this layer. Only for the life of a mount.
CREATE TABLE tarbox.moved (
  tenant_id bigint NOT NULL,
  ino bigint NOT NULL,
  view bigint NOT NULL,
  layer_id bigint NOT NULL,
  PRIMARY KEY (tenant_id, ino, view)
);

CREATE TABLE tarbox.dentries (
  tenant_id bigint NOT NULL,
  parent bigint NOT NULL,
  layer_id bigint NOT NULL,
  -- Null is a whiteout: the name is gone as of this layer. Its cookie is 0.
  ino bigint,
  -- Orders a directory's listing; unique within the tenant and kept for the life of the name.
  cookie bigint NOT NULL,
  type smallint NOT NULL,
  name bytea NOT NULL,
  PRIMARY KEY (tenant_id, parent, name, layer_id)
);

-- For listings only, which say that cookies are positive: a lookup by name must not mistake it for the way to go.
CREATE INDEX dentries_listing ON tarbox.dentries (tenant_id, parent, cookie) WHERE cookie > 0;
CREATE INDEX dentries_layer ON tarbox.dentries (tenant_id, layer_id) WHERE layer_id > 0;
CREATE INDEX dentries_whiteouts ON tarbox.dentries (tenant_id, layer_id) WHERE ino IS NULL;
-- The names of a file.
CREATE INDEX dentries_ino ON tarbox.dentries (tenant_id, ino) WHERE ino > 0;

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
  -- A row with a tiny file stays on one page as it is: compressing it here would cost more than everything else.
) WITH (toast_tuple_target = 8160);
ALTER TABLE tarbox.contents ALTER chunks SET STORAGE MAIN, ALTER inline SET STORAGE MAIN;
CREATE INDEX contents_layer ON tarbox.contents (tenant_id, layer_id) WHERE layer_id > 0;
CREATE INDEX contents_whiteouts ON tarbox.contents (tenant_id, layer_id) WHERE chunks = '';

CREATE TABLE tarbox.chunks (
  tenant_id bigint NOT NULL,
  hash bytea NOT NULL,
  -- 0: as they are; 1: zstd; 2: zstd with the chunk base_hash as its dictionary.
  codec smallint NOT NULL,
  -- At least the longest chain of deltas that are made from it. Lower than its base's, so no chain is a circle.
  height smallint NOT NULL DEFAULT 0,
  raw_size integer NOT NULL,
  base_hash bytea,
  -- Of a whole chunk: an earlier version that is the end of a run of deltas, and whole when it became that. Nothing needs it.
  anchor_hash bytea,
  data bytea NOT NULL,
  PRIMARY KEY (tenant_id, hash)
);
-- What is made from a chunk.
CREATE INDEX chunks_base ON tarbox.chunks (tenant_id, base_hash) WHERE base_hash IS NOT NULL;
-- What is stored is compressed already or doesn't compress.
ALTER TABLE tarbox.chunks ALTER hash SET STORAGE PLAIN, ALTER data SET STORAGE EXTERNAL;

-- What was done, one row an event. A table for each day (audit_20260131), for all tenants: see store/audit.ts. In the
-- columns from bytes to lines_deleted, -1 is none.
CREATE TABLE tarbox.audit (
  tenant_id bigint NOT NULL,
  event bigint NOT NULL,
  time timestamptz NOT NULL,
  layer_id bigint NOT NULL,
  ino bigint NOT NULL,
  bytes bigint NOT NULL,
  bytes_read bigint NOT NULL,
  position bigint NOT NULL,
  -- Microseconds.
  duration bigint NOT NULL,
  uid oid NOT NULL,
  gid oid NOT NULL,
  pid integer NOT NULL,
  lines_added integer NOT NULL,
  lines_deleted integer NOT NULL,
  -- An errno; 0 is success.
  result smallint NOT NULL,
  -- See audit/operations.ts.
  op smallint NOT NULL,
  comm bytea,
  path bytea,
  -- The other path of a rename or link; the text of a command.
  target bytea,
  PRIMARY KEY (tenant_id, time, event)
) PARTITION BY RANGE (time);
CREATE INDEX audit_op ON tarbox.audit (tenant_id, op, time);
-- Of long paths, what fits into an index for sure.
CREATE INDEX audit_path ON tarbox.audit (tenant_id, substring(path, 1, 256), time) WHERE path IS NOT NULL;
CREATE INDEX audit_target ON tarbox.audit (tenant_id, substring(target, 1, 256), time) WHERE target IS NOT NULL;
