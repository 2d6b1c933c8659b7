-- Names the one folder whose files a locked connection may still read. Params: $folders.
SET allowed_directories = $folders;
