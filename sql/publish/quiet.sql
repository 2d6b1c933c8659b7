-- Keeps a long statement from drawing a progress bar into what the program prints. Params: none.
SET enable_progress_bar = false;
