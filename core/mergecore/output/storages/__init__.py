"""Where an output is made: a folder that appears complete, or memory; read `folder` first."""
