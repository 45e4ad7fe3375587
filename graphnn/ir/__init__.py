"""Data of a lowered network and its checks; knows no op."""
