"""The archive: chat exports kept byte for byte, parsed to conversations, shown as transcripts, searched."""
