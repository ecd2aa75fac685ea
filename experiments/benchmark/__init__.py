"""Is fishjax faster than every other way to train many small CNNs at once?"""
