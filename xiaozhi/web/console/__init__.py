"""The console of this server, for its owner: pages in the browser, and what they ask.

    access.py     who may look, and who may change something
    audit.py      what was changed, by whom
    pages.py      the files of the pages, and the policy that they are shown under
    live.py       what changes while somebody looks, as server-sent events
    <page>.py     what one page asks: a blueprint under /console/api/<page>
    static/       the pages themselves: plain modules, no build step, nothing from elsewhere

Not the management console of another programme (`xiaozhi/management/`), whose orders this server can take."""
