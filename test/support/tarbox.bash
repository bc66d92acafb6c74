# Runs Tarbox as a user does, for bats. A folder of its own holds mount, data and log, so that a file of tests can stop
# it and start it again on the same data.

PROJECT=$(cd "${BASH_SOURCE[0]%/*}/../.." && pwd)
PATH=$PROJECT/node_modules/.bin:$PATH

# Prints what this machine lacks for a mount; nothing when there's all of it.
tarbox_missing() {
  if [ "$(id -u)" -ne 0 ]; then
    echo root
  elif ! [ -r /dev/fuse ] || ! [ -w /dev/fuse ]; then
    echo /dev/fuse
  fi
}

# Makes the folder, names it in SIDECAR_FOLDER, and sets the configuration for it.
tarbox_prepare() {
  SIDECAR_FOLDER=$(mktemp -d "${TMPDIR:-/tmp}/tarbox-bats-XXXXXX")
  # The embedded server runs as another user, who must get to its data.
  chmod 755 "$SIDECAR_FOLDER"
  export SIDECAR_FOLDER TARBOX_MOUNT=$SIDECAR_FOLDER/mnt TARBOX_DATA=$SIDECAR_FOLDER/data
}

# Waits until a command succeeds: wait_for SECONDS COMMAND…
wait_for() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@"; do
    if [ $SECONDS -ge $deadline ]; then
      echo "not within its deadline: $*" >&2
      return 1
    fi
    sleep 0.05
  done
}

tarbox_ended() { ! [ -e "/proc/$(cat "$SIDECAR_FOLDER/pid")" ]; }

tarbox_ready_or_ended() { grep -q '"event":"ready"' "$SIDECAR_FOLDER/log" || tarbox_ended; }

# Starts it and waits until the workspace is mounted. Its log, of this start alone, is $SIDECAR_FOLDER/log.
tarbox_start() {
  # In a session of its own; without bats' handles, on which bats waits for everyone.
  setsid node "$PROJECT/src/main.ts" </dev/null >/dev/null 2>"$SIDECAR_FOLDER/log" 3>&- 4>&- &
  echo $! >"$SIDECAR_FOLDER/pid"
  if wait_for 90 tarbox_ready_or_ended && ! tarbox_ended; then return; fi
  cat "$SIDECAR_FOLDER/log" >&2
  return 1
}

# Ends it as Ctrl-C does. Fails when it didn't end well.
tarbox_stop() {
  if ! tarbox_ended; then kill -INT "$(cat "$SIDECAR_FOLDER/pid")"; fi
  if wait_for 60 tarbox_ended && grep -q '"event":"stopped"' "$SIDECAR_FOLDER/log" && ! tarbox_complains; then return; fi
  cat "$SIDECAR_FOLDER/log" >&2
  return 1
}

# Whether its log has a warning or an error.
tarbox_complains() { grep -qE '"level":"(warn|error)"' "$SIDECAR_FOLDER/log"; }

# Stops it, whatever state it's in, and leaves nothing behind.
tarbox_remove() {
  local failed=0
  tarbox_stop || failed=1
  if ! tarbox_ended; then kill -KILL "$(cat "$SIDECAR_FOLDER/pid")"; fi
  if mountpoint -q "$TARBOX_MOUNT"; then umount -l "$TARBOX_MOUNT"; fi
  # The mount point is left immutable, on file systems that have that.
  chattr -f -i "$TARBOX_MOUNT" || true
  rm -rf "$SIDECAR_FOLDER"
  return $failed
}
