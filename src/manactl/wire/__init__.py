"""Bytes to values and back: netlink, rtnetlink, nldev, inet_diag and uverbs messages."""
