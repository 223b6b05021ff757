"""The drain: finished files below a root go to S3 and leave the disk, and nothing is lost.

``<root>/<bucket>/<key…>`` becomes ``s3://<bucket>/<key…>``. One file's way, in this order:

| module | does |
|---|---|
| ``scan`` | lists what is there, by open directories, without following a link |
| ``patience`` | says which file or bucket has to wait after an error |
| ``held`` | opens the file and takes a read lease: from now on a writer is noticed |
| ``delivery`` | makes S3 hold exactly these bytes, or finds that it does, and proves it |
| ``claim`` | moves the name out of everybody's reach, looks again, and only then unlinks |

``worker`` is that way, ``sync`` is one scan over all files, ``daemon`` repeats it.
"""
