-- Closes a connection to every other file, to the network and to extensions, for good. Params: none.
SET enable_external_access = false;
SET lock_configuration = true;
