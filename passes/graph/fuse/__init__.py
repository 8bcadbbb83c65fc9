"""Fusing: linear layers absorb the constants around them. The pass is in `fuse`, each family of rules in a file."""
