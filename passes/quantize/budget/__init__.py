"""Mixed precision: which type each weight gets, so that all fit into a number of bytes at the least error."""
