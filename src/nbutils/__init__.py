"""Helpers of the executable book "Not All Synthetic Data Is Yours to Learn From"."""
