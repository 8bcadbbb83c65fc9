"""Canonicalization: operators that change nothing go, and pairs of operators become one."""
