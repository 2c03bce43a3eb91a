"""Where cells run: in this process, in workers on this machine, as jobs of a cluster. May import slurm."""
