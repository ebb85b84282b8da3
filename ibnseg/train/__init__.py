"""Training and testing on MMEngine.

config (file and command line) -> checks (before anything runs) -> train and test (the two jobs) on
runner, loops and sampler; checkpoint and progress are their hooks. `runs` has many of them: sweeps
and fine-tuning.
"""
