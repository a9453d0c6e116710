"""Commands of `tuneagent`. No logic: each asks the session and prints one view of the answer."""
