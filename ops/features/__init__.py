"""Features of untrimmed videos: windows, extraction by a recognition model, import, export."""
