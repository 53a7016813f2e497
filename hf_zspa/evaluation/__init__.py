"""The paper's evaluation on lmms-eval: the model plug-in, the methods, the benchmarks, their tables and plots."""
