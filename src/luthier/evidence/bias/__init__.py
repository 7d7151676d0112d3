"""Whether a model treats groups of people alike: by columns of the rows, by swapped words, by two public benchmarks."""
