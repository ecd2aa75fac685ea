"""Proof: what watching every layer at every step costs."""
