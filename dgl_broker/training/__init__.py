"""From simulated or real packets to a bundle: shards, splits, the authors' stages, SVM, fusion, null; and the baselines.

`splits` and `shards` need numpy alone; `dataset` never imports torch, since it runs in many small processes.
"""
