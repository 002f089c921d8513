"""Driving videos -> clips: which videos, what is known about them, their windows, crops and split."""

from ipa_core.clips.cut import CutClip, DroppedWindow, FindPeople, cut_video
from ipa_core.clips.sources import VideoEntry, VideoMetadata, find_videos, read_metadata
from ipa_core.clips.split import split_of

__all__ = [
    "CutClip",
    "DroppedWindow",
    "FindPeople",
    "VideoEntry",
    "VideoMetadata",
    "cut_video",
    "find_videos",
    "read_metadata",
    "split_of",
]
