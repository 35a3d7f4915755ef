"""A physical simulator of lensed and unlensed transients, as survey observations and as alert packets."""
