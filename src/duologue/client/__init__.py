"""Talking to a server of `duologue serve`, or any that speaks Moshi's protocol."""
