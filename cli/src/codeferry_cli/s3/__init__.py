"""What `ferry s3` needs beside the engine: options, progress, answers, and s5cmd."""
