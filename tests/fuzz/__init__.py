"""Fuzzers: random messages through parsers and gateways, compared with rules that are written a second time here."""
