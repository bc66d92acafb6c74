#!/bin/sh
# Runs a command in a workspace, and undoes everything that it did when it fails.
#
#   examples/agent.sh WORKSPACE COMMAND [ARGUMENT…]
#
# A checkpoint is taken first; what was in no checkpoint is in it. When the command fails, the patch of what it did is
# printed, and the workspace is as before. Another checkpoint is taken when it succeeds.
set -eu

workspace=$1
shift
cd "$workspace"
control=$workspace/.tarbox
# The same name is never given twice.
name=$(date -u +%Y%m%dT%H%M%SZ)-$$

# One command of Tarbox: control FILE TEXT. Its outcome is read on the handle that wrote it.
control() {
  exec 8<>"$control/$1"
  if ! echo "$2" 2>/dev/null >&8; then
    cat <&8 >&2
    return 1
  fi
  exec 8>&-
}

# `branch`: after an earlier rollback there are newer layers, which are kept beside this one.
control layers/new "{\"name\": \"before-$name\", \"branch\": true}"
if "$@"; then
  control layers/new "{\"name\": \"after-$name\", \"branch\": true}"
  echo "done; undo it with: echo before-$name > $control/layers/switch"
else
  status=$?
  cat "$control/diff/before-$name..working/patch"
  control layers/switch "before-$name"
  echo "failed ($status); the workspace is as it was before" >&2
  exit "$status"
fi
