"""Find keypoints in pictures: one protocol, three backends."""

from ipa_core.pose.extractor import PersonBox, PoseExtractor

__all__ = ["PersonBox", "PoseExtractor"]
