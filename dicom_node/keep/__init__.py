"""keep: are index and files of one mind, how are they brought to it, and what need not be kept any more."""
