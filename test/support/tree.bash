# Descriptions of a tree, one line a file in a fixed order, to be compared with `diff`.

# SHA-256 of every regular file below a directory.
tree_contents() {
  (cd "$1" && find . -type f -print0 | LC_ALL=C sort -z | xargs -0 -r sha256sum)
}

# Everything else that a file has and that a copy keeps: type, mode, owner, links, size, mtime in ns, target.
tree_attributes() {
  (cd "$1" && find . -type d -printf '%p %y %m %U %G %T@\n' -o -printf '%p %y %m %U %G %n %s %T@ %l\n' | LC_ALL=C sort)
}

# The same, and what only the file itself has: inode, ctime, links and size of directories, space used.
tree_identity() {
  (cd "$1" && find . -printf '%p %i %y %m %U %G %n %s %b %T@ %C@ %l\n' | LC_ALL=C sort)
}
