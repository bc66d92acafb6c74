#!/usr/bin/env python3
"""Tries several ways to do a task in a workspace, each from the same state, and keeps the first one that passes its test.

    examples/agent.py WORKSPACE TEST WAY [WAY...]

TEST and each WAY are shell commands that run in the workspace. The state of each failed way is kept as a layer, to be
looked at in .tarbox/snapshots; the workspace itself is as before when none passes (exit code 1).
"""

import json
import subprocess
import sys
import uuid
from pathlib import Path


class Workspace:
    """A directory that Tarbox serves."""

    def __init__(self, path):
        self.path = Path(path)
        self.control = self.path / ".tarbox"

    def command(self, file, **values):
        """Writes one command and returns its outcome. Raises OSError, with what is wrong, when it's refused."""
        with open(self.control / file, "r+b", buffering=0) as handle:
            try:
                handle.write(json.dumps(values).encode())
            except OSError as problem:
                handle.seek(0)
                outcome = json.loads(handle.read())
                raise OSError(problem.errno, f"{outcome['message']} {outcome.get('hint', '')}") from None
            handle.seek(0)
            return json.loads(handle.read())

    def checkpoint(self, name):
        """Freezes everything as it is now. Layers that are newer are kept beside it."""
        self.command("layers/new", name=name, branch=True)

    def switch(self, name):
        """Makes the workspace what it was at a layer."""
        self.command("layers/switch", layer=name)

    def changes(self, since, until="working"):
        """What differs between two layers."""
        text = (self.control / "diff" / f"{since}..{until}" / "changes").read_text()
        return [json.loads(line) for line in text.splitlines()]

    def run(self, command):
        return subprocess.run(["sh", "-c", command], cwd=self.path, check=False).returncode == 0


def main(path, test, *ways):
    workspace = Workspace(path)
    run = uuid.uuid4().hex[:8]
    start = f"start-{run}"
    workspace.checkpoint(start)
    for number, way in enumerate(ways, 1):
        passed = workspace.run(way) and workspace.run(test)
        print(f"way {number}: {len(workspace.changes(start))} changes, {'passed' if passed else 'failed'}", flush=True)
        workspace.checkpoint(f"{'passed' if passed else 'failed'}-{run}-{number}")
        if passed:
            return 0
        workspace.switch(start)
    return 1


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
