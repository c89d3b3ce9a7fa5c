"""An output folder that is absent or complete: staged, journaled, sealed, verified; read `storages.folder` first."""
