"""Scoring fused images: metrics, baselines to read them against, picture sheets and reports."""
