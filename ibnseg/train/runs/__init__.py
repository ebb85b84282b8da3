"""Many runs, one after another: sweeps over configs and seeds, and fine-tuning on parts."""
