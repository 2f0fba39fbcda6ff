"""Whether an object is what it was told to be: pure judges, and the words for what is wrong."""
