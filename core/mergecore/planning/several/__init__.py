"""Files with several documents, of which one reads what another makes; read `compiling.planned`."""
