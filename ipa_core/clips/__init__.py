"""Driving videos -> clips: finds the videos and their metadata, cuts windows, crops them, and splits the clips."""

from ipa_core.clips.cut import CutClip, DroppedWindow, FindPeople, cut_video
from ipa_core.clips.sources import (
    Video,
    VideoEntry,
    VideoMetadata,
    find_videos,
    is_url,
    local_file,
    read_metadata,
    version_of,
)
from ipa_core.clips.split import split_of

__all__ = [
    "CutClip",
    "DroppedWindow",
    "FindPeople",
    "Video",
    "VideoEntry",
    "VideoMetadata",
    "cut_video",
    "find_videos",
    "is_url",
    "local_file",
    "read_metadata",
    "split_of",
    "version_of",
]
