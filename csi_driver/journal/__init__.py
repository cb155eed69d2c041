"""The journal: what stands in Ceph, in which order it is written, and what each row that a crash can leave means.

All state lives in omap objects of the image's pool and of the cluster entry's rados namespace. The layout is that of the
widely deployed Ceph CSI driver; own keys are added, none is changed (layout.py lists every key).

  K   key `csi.volume.<request name>` of the directory `csi.volumes.<instance>`: the name's uuid
  O   object `csi.volume.<uuid>`: all that is known of one volume, its `state` among it
  M   key `making.<uuid>` of the directory: what an entry begins with, beside its name; nothing once O is there
  D   key `deleted.<uuid>` of the directory: O has no K any more; still to be cleared away, or brought back without a name
  I   the image, T the image in the trash

Create   K  by compare with "", and M, in one write  →  I  →  O `complete`, exclusive; M dropped by a later claim, or a sweep
         A clone of a volume, a copy at the hard depth, and a volume whose K is in another pool:
         K  by compare with ""  →  O `making`, exclusive  →  K read again  →  I  →  O `complete`
         A copy at the hard depth:  … I  →  O `flattening`  →  queue (flatten_queue.py); refused for now; behind it the
         worker flattens I  →  O `complete` with depth 0  →  off the queue
Delete   O `deleting`  →  I to the trash  →  K dropped and D put in one write  →  O `trashed`; answered; behind it
         O `purging`  →  T purged  →  O removed  →  D dropped
Undo     of a create that is refused: O `deleting` and `unmade`  →  I removed  →  K dropped, D put  →  O removed  →  D

So an object is always found by K or by D, whatever the moment of a crash, and no search through the pool is needed.
K may stand in another pool than O and I: for a class of topology-bound pools its `pool` holds the names, and K's value is
`<pool id of O, 16 hex>/<uuid>`, O's `csi.journalpool` the id of K's pool. The pool is chosen before K is claimed and stands
there; a create that is cut short and then asked for with a topology that cannot reach it is undone and begun anew elsewhere.
There K and D cannot change in one write: D is put first and K dropped after it, and back in the other order.

Every write on an existing O is one operation that begins by comparing `state`; whoever loses reads O again.

  K O I            reached by               create by name                          delete by handle
  – – –            fresh                    start                                   OK
  K – –            clone, after K           take the uuid up: O exclusive           OK
  K M – –          create, after K          fence the maker, O `making`, make I     fence, O `making`, undo
  K M – I          create, I half or whole  fence, O `making`, remove I, make it    likewise
  K O – making     clone, after O           fence the maker, make I                 fence, undo
  K O I making     clone, I half or whole   fence the maker, remove I, make it      fence, undo
  K O I flattening create, I whole and deep count, queue, wait; shallow by now:   to the trash, as complete
                                            O `complete`, return it
  K O I complete   complete                 compare the request; return it          delete
  K O – complete   another replica's delete read O again; still so: Inconsistent    likewise
  K O ± deleting   delete, after its mark   finish the delete, then start           go on
  – O T deleting   delete, D written        start: the name is free                 go on
  – O T trashed    delete, answered         start                                   OK
  – O T restoring  undelete, claimed        start: the name is free                 Busy: repeat the undelete
  – O I restoring  undelete, image out      likewise                                likewise
  K O I restoring  undelete, named          Busy: repeat the undelete               likewise
  – O I complete   undelete, when another   start, or the volume that has the name  delete
                   volume has the name
  – O ± purging    purge                    start                                   OK
  – O – making     a maker overtaken and    start                                   fence, undo
                   paused for its whole
                   successor's life
  – – I, – O I     foreign damage           start                                   Inconsistent; nothing is touched

A volume with a retention (`trashRetention` of its class, kept in O) is `trashed` or `tombstone` with `kept_until`: the
purge leaves it as it is before that time, and the trash defers its image as long. It can be brought back, and so can what
had no retention and has not been purged or shrunk yet.

Undelete  O `restoring`  →  I out of the trash  →  K put, if the name is free, and D dropped, in one write  →  O `complete`

Purge, shrink and undelete begin with a compare of `state`: one wins. Without its name a volume lives on with D, so that its
O is found; the purge passes it by. Three that are late could do harm, and are fenced by whoever goes on with their work: an
undelete (its `maker`, at once: the person who repeats the command means it), a delete (its `maker`, after a grace time of
seconds), which would send an image to the trash that has come back, or note one there that has been purged, and a purge (its
`maker`, after the grace time of a create), which would make a header anew. A purge that has to wait empties `maker`.

A volume whose image has snapshots is deleted to a tombstone: the image keeps its name, for its snapshots' sake.

Delete   O `deleting`  →  K dropped, D put  →  O `tombstone`; answered; behind it O `shrunk`  →  image shrunk, its data gone
End      with the last snapshot: O `deleting`  →  I to the trash, for what is left of its time  →  as above

  K O I                      reached by                 create by name       delete by handle   behind the answers
  – O deleting, I with snaps delete, D written          start                go on              `tombstone`
  – O tombstone or shrunk    delete, answered           start                OK                 shrink, when its time is
                                                                                                over; with the last
                                                                                                snapshot: finish
  – O restoring              undelete, claimed          start                Busy               nothing

An encrypted volume's key, where its KMS keeps it wrapped, is among the metadata of I, written between the making of I and O
`complete` (operations/volume_keys.py): no row of its own, an I without it is one that is made anew.

Where a server keeps it (V), it is there before O is `complete`, and goes when the image is gone, before what leads to it:

Create   … I  →  V, by compare with nothing  →  O `complete`
Purge    O `purging`  →  T purged  →  V removed  →  O removed  →  D dropped
Undo     … I removed  →  K dropped, D put  →  V removed  →  O removed  →  D
         beside the name: I removed  →  V removed  →  K and M dropped

  O            I, T    V    reached by                   create by name          delete by handle   behind the answers
  making, or M any     –/V  create                       I made anew; a new       undo               –
                                                         volume has what V holds
  deleting, unmade –   V    undo, I removed              go on                   go on              V removed, O, D
  purging      –       V    purge, T purged; the server  start                   OK                 V removed, O, D; as long
                            may be down                                           as it takes
  purging      –       –    purge, V removed             start                   OK                 O, D

Expand    O `resizer`, by compare with it and the size  →  I grown  →  O's size, and `resizer` empty, in one write

  O            I             reached by           expand                                  delete
  no resizer   any size      –                    as large already: return it; or grow    delete
  resizer      old or new    expand, claimed      fence the resizer, claim, grow          fence the resizer, delete
  no resizer   larger        an older version     record its size                         delete

Which nodes have a volume is one value of O (publications.py), changed by compare with `state` and itself; the mark of a
delete compares it too. Nodes, and what each has, are counted apart (nodes.py, with what a crash leaves there).

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

A group snapshot has K, O and D of its own (`csi.groups.<instance>`, `csi.volume.group.<uuid>`); G is the RBD group, named in
O like the members and the uuids of their snapshots; M are the members' snapshots, K and O each, in their own pools.

Create   K  →  O `making`  →  K read again  →  G  →  members in  →  G's snap, of all members at once  →  members out
         →  for each: its volume's O read again, then K and O `complete` of M  →  O `complete`
Delete   O `deleting`  →  each M `deleting`  →  G's snap  →  G  →  each M: K dropped, D put, O removed, D dropped
         →  K dropped, D put  →  O removed  →  D dropped

  K O G M                     reached by             create by name                      delete by handle
  K – – –                     create, after K        take the uuid up                    –
  K O ± – making              create, before the cut fence the maker; G, members, cut    fence, go on
  K O G – making, G's snap    a cut that was cut     fence; remove the snap, cut again   fence, go on
  incomplete                  short
  K O G ± making, G's snap    create, after the cut  fence; members out, M that are      fence, go on
  complete                                           missing
  K O G ± making, a volume    a delete of the volume all of it goes: NOT_FOUND           the same
  deleted
  K O G M complete            complete               other volumes: Conflict; return it  delete
  K O ± ± deleting            delete, after its mark finish the delete, then start       go on

A volume that is deleted is taken out of the RBD group that it may still be in: the trash takes it, the purge would not.

A copy is a volume whose O names, in `cloned_from`, the snap that it was cloned of. That of a volume is cut for the one copy
(`csi-clone-<uuid>` on the source) and removed with it: whoever undoes the copy removes this snap first, then the image, since
a clone that its parent does not list is half made. With clone format 1 the snap stays until the copy is purged.

A maker is fenced before its work is taken over: its address goes on the cluster's blocklist, then O's `maker` is changed by
compare. Without it a paused maker would go on, fail, and clean away its successor's image (makers.py).
"""
