"""The shared verbs: segment, classify, attribute, measure. Functions; array in, value out."""
