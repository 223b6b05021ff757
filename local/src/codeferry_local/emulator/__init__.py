"""The services of the embedded AWS: MiniStack, corrected, and the app deployed to it."""
