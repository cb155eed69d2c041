"""The journal: what stands in Ceph, in which order it is written, and what each row that a crash can leave means.

All state lives in omap objects of the image's pool and of the cluster entry's rados namespace. The layout is that of the
widely deployed Ceph CSI driver; own keys are added, none is changed (layout.py lists every key).

  K   key `csi.volume.<request name>` of the directory `csi.volumes.<instance>`: the name's uuid
  O   object `csi.volume.<uuid>`: all that is known of one volume, its `state` among it
  D   key `deleted.<uuid>` of the directory: O has no K any more and is still to be cleared away
  I   the image, T the image in the trash

Create   K  by compare with ""  →  O `making`, exclusive  →  K read again  →  I  →  O `complete`
         A copy at the hard depth:  … I  →  O `flattening`  →  queue (flatten_queue.py); refused for now; behind it the
         worker flattens I  →  O `complete` with depth 0  →  off the queue
Delete   O `deleting`  →  I to the trash  →  K dropped and D put in one write  →  O `trashed`; answered; behind it
         O `purging`  →  T purged  →  O removed  →  D dropped
Undo     of a create that is refused: O `deleting` and `unmade`  →  I removed  →  K dropped, D put  →  O removed  →  D

So an object is always found by K or by D, whatever the moment of a crash, and no search through the pool is needed.
Every write on an existing O is one operation that begins by comparing `state`; whoever loses reads O again.

  K O I            reached by               create by name                          delete by handle
  – – –            fresh                    start                                   OK
  K – –            create, after K          take the uuid up: O exclusive           OK
  K O – making     create, after O          fence the maker, make I                 fence, undo
  K O I making     create, I half or whole  fence the maker, remove I, make it      fence, undo
  K O I flattening create, I whole and deep count, queue, wait; shallow by now:   to the trash, as complete
                                            O `complete`, return it
  K O I complete   complete                 compare the request; return it          delete
  K O – complete   another replica's delete read O again; still so: Inconsistent    likewise
  K O ± deleting   delete, after its mark   finish the delete, then start           go on
  – O T deleting   delete, D written        start: the name is free                 go on
  – O T trashed    delete, answered         start                                   OK
  – O ± purging    purge                    start                                   OK
  – O – making     a maker overtaken and    start                                   fence, undo
                   paused for its whole
                   successor's life
  – – I, – O I     foreign damage           start                                   Inconsistent; nothing is touched

A volume whose image has snapshots is deleted to a tombstone: the image keeps its name, for its snapshots' sake.

Delete   O `deleting`  →  K dropped, D put  →  O `tombstone`; answered; behind it O `shrunk`  →  image shrunk, its data gone
End      with the last snapshot: O `deleting`  →  I to the trash  →  as above

  K O I                      reached by                 create by name       delete by handle   behind the answers
  – O deleting, I with snaps delete, D written          start                go on              `tombstone`
  – O tombstone or shrunk    delete, answered           start                OK                 shrink; with the last
                                                                                                snapshot: finish

A snapshot has K, O and D of its own (`csi.snaps.<instance>`, `csi.snap.<uuid>`); S is the snap on the source's image.

Create   K  →  O `making`  →  K read again  →  S  →  source's O read again  →  O `complete`
Delete   O `deleting`  →  S removed  →  K dropped, D put  →  O removed  →  D dropped

The delete of a volume marks it and looks for snaps afterwards, the cut looks for the mark after itself: one sees the other.

  K O S            reached by               create by name                          delete by handle
  K – –            create, after K          take the uuid up                        –
  K O – making     create, after O          fence the maker, cut                   fence, go on
  K O S making     create, after the cut    as above: the snap is it, if whole     fence, go on
  K O S making,    a delete of the volume   remove S, O, K: NOT_FOUND               the same
  source deleted
  K O S complete   complete                 another source: Conflict; return it     delete
  K O ± deleting   delete, after its mark   finish the delete, then start           go on
  – O S deleting   format 1, with clones    start                                   OK; finished behind the answers
                                                                                    when the clones are gone

A copy is a volume whose O names, in `cloned_from`, the snap that it was cloned of. That of a volume is cut for the one copy
(`csi-clone-<uuid>` on the source) and removed with it: whoever undoes the copy removes this snap first, then the image, since
a clone that its parent does not list is half made. With clone format 1 the snap stays until the copy is purged.

A maker is fenced before its work is taken over: its address goes on the cluster's blocklist, then O's `maker` is changed by
compare. Without it a paused maker would go on, fail, and clean away its successor's image (makers.py).
"""
