"""A run on an instance: apply a release, run a command or script in it, go back.

One zip of these sources (stacks/workflow/agent_code.py) is fetched by the SSM documents' frame
(stacks/documents/fetch.py) and runs under the instance's own Python (3.9 to 3.14, standard
library only): it imports nothing of Codeferry, the tests hold it to contracts. ``execute`` is
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
