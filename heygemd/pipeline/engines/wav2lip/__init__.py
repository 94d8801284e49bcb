"""Step 4: Wav2Lip, written anew; it runs with a checkpoint that the operator imported (``heygemd models``)."""
