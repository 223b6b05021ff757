"""What a run does on an instance: apply a release, run a command or script in it, go back.

Travels compressed in the SSM documents (stacks/documents.py) and runs under the instance's own
Python (3.9 to 3.14, standard library only): it imports nothing of Codeferry, the tests hold it
to contracts. A document with its parameters has 64 KB, hence few words here. ``execute`` is
where it begins.

In: CODEFERRY_PAYLOAD (base64 JSON), CODEFERRY_RUN_ID, CODEFERRY_ROOT (/opt/codeferry),
CODEFERRY_LOCK_SECONDS (120), CODEFERRY_LOGIN_UID (1000), CODEFERRY_VERBOSE, CODEFERRY_CRASH_AT
(tests). Out: one result line on stdout, exit 0 or 1. In <root>/<project>/:

  current -> releases/<id>    shared/            what lives on between releases
  releases/<id>/              runs/<run>.json    answers to runs that succeeded
  staging/<run>.*/            activations.json   release ids, last activated first

What leaves staging is verified and on disk, and leaves by one rename: a kill at any moment
leaves current at a complete release.
"""
