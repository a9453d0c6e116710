"""Cluster side of tuneagent: decides who may change when. It never touches a host."""
