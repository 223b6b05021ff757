"""The drain: finished files below a root go to S3 and leave the disk, and nothing is lost.

``<root>/<bucket>/<key…>`` becomes ``s3://<bucket>/<key…>``. One file's way, in this order:

| module | does |
|---|---|
| ``files.scan`` | lists what is there, by open directories, without following a link |
| ``backoff`` | says which file or bucket has to wait after an error |
| ``files.open_file`` | opens the file and takes a read lease: from now on a writer is noticed |
| ``upload`` | makes S3 hold exactly these bytes, or finds that it does, by checksums |
| ``files.safe_delete`` | moves the name out of everybody's reach, looks again, then unlinks |

``workers`` is that way for all files of one scan, ``daemon`` repeats it.
"""
