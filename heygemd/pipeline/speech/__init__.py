"""From sound to lip targets: mel spectrogram and the lips network.

May import: common.
"""
