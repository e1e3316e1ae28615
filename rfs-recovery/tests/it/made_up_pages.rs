//! Images in pages that are made up by someone who knows the format: every hash is right, what is hashed is not.
//!
//! Such an image is refused, by an error that names the object; or what is wrong with it is found by who checks the
//! whole of it. It never makes the reader panic, go on for ever, or take memory by the word of a length.

use bytes::Bytes;
use object_store::path::Path;
use rfs_backends::Store;
use rfs_core::{
    Context, Cookie, Entry, EntryKey, Extent, Fault, Ino, Inode, Item, Key, Lsn, Name, NodeParts, OwnerId,
    PageObject, PageRef, Place, Root, SegmentId, StateHash, Timestamp, Tree, Usage, Value, XattrName,
    XattrValue, decide,
};
use rfs_recovery::RecoveryError;
use rfs_recovery::commit_log::list;
use rfs_recovery::image::{ImageHead, ImageOf, encode_image, read_head};
use rfs_recovery::objects::{ImageRef, PagedImage, StoredSegment};
use rfs_recovery::page::{Column, Paged, decode_page, encode_branch, encode_leaf, page_ref};
use rfs_recovery::state::load;
use rfs_testkit::{CrashPlan, Rng, SimStore};

use crate::image::{Random, Run, any_op};
use crate::made_up::{as_commit, with_commit};
use crate::pages::uncompressed;
use crate::sample::{self, FIRST, KEYS};

/// The object that is made up.
const MADE_UP: PageObject = PageObject { epoch: 1, number: 99 };

/// An image whose pages are in one object, and the tree that it is of.
struct Truth {
    object: Bytes,
    image: PagedImage,
    head: ImageHead,
    tree: Tree,
}

impl Truth {
    async fn new(random: &mut Random, ops: usize) -> Self {
        let mut run = Run::new();
        run.run(random, ops).await;
        let image = run.put().await;
        let (head, _) = read_head(&run.pages, &image.reference).await.unwrap();
        Self { object: image.pieces.concat().into(), image: image.reference, head, tree: run.model }
    }

    /// The same with another head, and the same pages.
    fn with_head(&self, head: &[u8]) -> (Bytes, PagedImage) {
        with_head(&self.object[..self.image.head.offset as usize], self.image.head.object, head)
    }
}

fn with_head(pages: &[u8], object: PageObject, head: &[u8]) -> (Bytes, PagedImage) {
    let place = page_ref(object, pages.len() as u32, head);
    ([pages, head].concat().into(), PagedImage { of: FIRST, head: place })
}

fn encoded(head: &ImageHead) -> Vec<u8> {
    postcard::to_extend(head, vec![2]).unwrap()
}

/// How an image was taken.
#[derive(Debug, PartialEq, Eq)]
enum Taken {
    Refused,
    /// It could be read, and a check finds what is wrong.
    Unsound,
    Sound,
}

/// Reads all of an image, and uses it as a writer does. It is sound only if it is of the true tree.
async fn take(truth: &Truth, object: &Bytes, image: &PagedImage) -> Taken {
    let sim = SimStore::new(CrashPlan::never());
    let key = KEYS.pages_of(image.head.object);
    sim.set_object(&Path::from(key.as_str()), object.clone());
    let taken = match read_all(&sim, image).await {
        Ok((head, tree)) => {
            let sound = tree.check().is_ok() && StateHash::of(&tree) == Ok(head.state);
            assert!(!sound || tree == truth.tree, "what a check does not find is wrong");
            if sound { Taken::Sound } else { Taken::Unsound }
        }
        Err(error) => {
            refused(&error);
            Taken::Refused
        }
    };
    if let Err(error) = write_on(&sim, image).await {
        refused(&error);
    }
    taken
}

fn refused(error: &RecoveryError) {
    let text = error.to_string();
    assert!(text.contains("/pages/") && text.len() < 2_000, "{text}");
}

async fn read_all(sim: &SimStore, image: &PagedImage) -> Result<(ImageHead, Tree), RecoveryError> {
    let pages = sample::pages_of(&sample::store_on(sim));
    let (head, base) = read_head(&pages, image).await?;
    let tree = base.tree().unwrap().clone();
    pages.load_all(&tree).await?;
    pages.ask(|| base.segments().iter().try_for_each(|pair| pair.map(drop))).await?;
    pages.ask(|| base.objects().iter().try_for_each(|pair| pair.map(drop))).await?;
    Ok((head, tree))
}

/// Goes on from an image that nobody has checked.
async fn write_on(sim: &SimStore, image: &PagedImage) -> Result<(), RecoveryError> {
    let pages = sample::pages_of(&sample::store_on(sim));
    let (head, base) = read_head(&pages, image).await?;
    let mut tree = base.tree().unwrap().clone();
    let before = tree.clone();
    let mut random = Random(u64::from_le_bytes(*image.head.hash.first_chunk().unwrap()), 40);
    for number in 0..20 {
        let op = any_op(&mut random);
        let holders = |_| vec![OwnerId(1)];
        let context = Context { holders: &holders, ..Context::new(Timestamp::from_nanos(number)) };
        let changes = loop {
            match decide(&tree, &context, &op) {
                Ok(decision) => break decision.changes,
                Err(Fault::Missing(missing)) => pages.load(&missing).await?,
                Err(Fault::Errno(_)) => break Vec::new(),
            }
        };
        for change in &changes {
            let place = Place { segment: SegmentId(77), position: 1000 * number.cast_unsigned() };
            while let Err(error) = tree.apply(change, place) {
                match error.missing() {
                    Some(missing) => pages.load(missing).await?,
                    None => break,
                }
            }
        }
    }
    let state = pages.ask(|| head.state.update(&before, &tree)).await?;
    let of = ImageOf {
        volume: head.volume,
        of: head.of,
        lsn: head.lsn,
        chain: head.chain,
        state,
        next_segment: head.next_segment,
        tree,
        segments: base.segments().clone(),
    };
    let next = PageObject { number: image.head.object.number + 1, ..image.head.object };
    pages.ask(|| encode_image(&of, &base, next)).await?;
    Ok(())
}

/// A head with a few bytes changed, or put in or taken out.
fn garbled(whole: &[u8], head: &ImageHead, rng: &mut Rng) -> Vec<u8> {
    let mut garbled = whole.to_vec();
    // The roots' pages, which stand at the end, are not asked about anything.
    let asked = whole.len() - head.roots.iter().map(|(_, bytes)| bytes.0.len()).sum::<usize>();
    for _ in 0..=rng.below(3) {
        let at = rng.index(asked.min(garbled.len()));
        match rng.below(4) {
            0 => garbled[at] ^= 1 << rng.below(8),
            1 => garbled[at] = *rng.pick(&[0, 1, 0x7f, 0x80, 0xff]),
            2 => drop(garbled.splice(at..at, vec![0xff; 1 + rng.index(9)])),
            _ => drop(garbled.drain(at..garbled.len().min(at + 1 + rng.index(9)))),
        }
    }
    garbled
}

/// A volume whose image is made up is opened, and the journal is replayed on that.
#[tokio::test(start_paused = true)]
async fn garbled_heads_below_a_journal() {
    let sample = sample::make().await;
    let sample = sample.without(&sample.fence_key());
    let named = sample.paged();
    let (pages, whole) = sample.image().split_at(named.head.offset as usize);
    let (head, _) = read_head(&sample::pages_of(&sample.store_with(&[])), &named).await.unwrap();
    let mut rng = Rng::new(5);
    let mut opened = [0; 2];
    for _ in 0..1500 {
        let (object, image) = with_head(pages, named.head.object, &garbled(whole, &head, &mut rng));
        let mut commit = as_commit(&sample);
        commit.image = Some(ImageRef::Paged(PagedImage { of: named.of, ..image }));
        let commit = with_commit(&sample, &commit);
        let (key, commit_key) = (sample.image_key(), sample.head_key());
        let store = sample.store_with(&[(&key, &object), (&commit_key, &commit)]);
        match open_all(&store).await {
            Ok(tree) => {
                opened[0] += 1;
                let _ = tree.check();
            }
            Err(error) => {
                opened[1] += 1;
                let text = error.to_string();
                assert!(text.contains("sim://") || text.contains("pages/"), "{text}");
            }
        }
    }
    assert!(opened.iter().all(|count| *count > 50), "{opened:?} were opened, refused");
}

async fn open_all(store: &Store) -> Result<Tree, RecoveryError> {
    let listing = list(&sample::lineage_of(store)).await?;
    let pages = sample::pages_of(store);
    let state = load(&pages, &listing.ids, listing.head.unwrap()).await?;
    pages.load_all(&state.tree).await?;
    Ok(state.tree)
}

#[tokio::test]
async fn garbled_heads() {
    let truth = Truth::new(&mut Random(1, 40), 300).await;
    let (object, image) = truth.with_head(&encoded(&truth.head));
    assert_eq!(take(&truth, &object, &image).await, Taken::Sound);
    let mut rng = Rng::new(3);
    let (mut refused, mut unsound) = (0, 0);
    let whole = truth.object.slice(truth.image.head.offset as usize..);
    for _ in 0..1500 {
        let mut head = garbled(&whole, &truth.head, &mut rng);
        for _ in 0..2 {
            let (object, image) = truth.with_head(&head);
            match take(&truth, &object, &image).await {
                Taken::Refused => refused += 1,
                Taken::Unsound => unsound += 1,
                Taken::Sound => {}
            }
            // The other time with a byte behind it.
            head.push(0);
        }
    }
    assert!(refused > 1000 && unsound > 10, "{refused} were refused, {unsound} are not sound");
}

/// What is made of a head.
type Make = (&'static str, fn(&mut ImageHead));

fn root_of(head: &mut ImageHead) -> &mut PageRef {
    head.tree.inodes.page.as_mut().unwrap()
}

#[tokio::test]
async fn numbers_of_heads_at_their_ends() {
    let truth = Truth::new(&mut Random(1, 750), 3000).await;
    assert!(truth.head.tree.inodes.height == 1);
    let refused: [Make; 22] = [
        ("a root that is higher", |head| head.tree.inodes.height += 1),
        ("a root that is the highest", |head| head.tree.inodes.height = u8::MAX),
        ("a root that is lower", |head| head.tree.inodes.height -= 1),
        ("a root of the objects that is higher", |head| head.objects.height = u8::MAX),
        ("a root of the segments that is higher", |head| head.segments.height = u8::MAX),
        ("no keys", |head| head.tree.entries.len = 0),
        ("keys without number", |head| head.tree.entries.len = u64::MAX),
        ("objects without number", |head| head.objects.len = u64::MAX),
        ("segments without number", |head| head.segments.len = u64::MAX),
        ("keys without a page", |head| head.tree.extents.page = None),
        ("height without a page", |head| {
            head.tree.extents = Root { page: None, height: 3, len: 0 };
        }),
        ("a page behind the end", |head| root_of(head).offset = u32::MAX),
        ("a page that is too long", |head| root_of(head).len = u32::MAX),
        ("a page that is longer", |head| root_of(head).len += 1),
        ("an empty page", |head| root_of(head).len = 0),
        ("a page of another hash", |head| root_of(head).hash[0] ^= 1),
        ("a page in no object", |head| root_of(head).object.number = u64::MAX),
        ("a page of another map", |head| head.tree.inodes.page = head.tree.entries.page),
        ("the segments' page", |head| head.tree.segments.page = head.segments.page),
        ("a user twice", |head| head.tree.users.extend([(7, Usage::default()); 2])),
        ("a nameless inode twice", |head| head.tree.orphans.extend([Ino(999); 2])),
        ("an item of a page", |head| head.tree.items.push(Item::NextIno(Ino(1)))),
    ];
    for (what, make) in refused {
        let mut head = truth.head.clone();
        // They would be known already.
        head.roots.clear();
        make(&mut head);
        let (object, image) = truth.with_head(&encoded(&head));
        assert_eq!(take(&truth, &object, &image).await, Taken::Refused, "{what}");
    }
    let unsound: [Make; 9] = [
        ("a key more", |head| head.tree.entries.len += 1),
        ("a key less", |head| head.tree.inodes.len -= 1),
        ("no next inode", |head| head.tree.next_ino = Ino(0)),
        ("no inode left", |head| head.tree.next_ino = Ino(u64::MAX)),
        ("nothing allocated", |head| head.tree.allocated = 0),
        ("all allocated", |head| head.tree.allocated = u64::MAX),
        ("no users", |head| head.tree.users.clear()),
        ("a user of all", |head| {
            head.tree.users.clear();
            head.tree.users.push((0, Usage { bytes: u64::MAX, inodes: u64::MAX }));
        }),
        ("a nameless inode that is not there", |head| head.tree.orphans.push(Ino(u64::MAX))),
    ];
    for (what, make) in unsound {
        let mut head = truth.head.clone();
        make(&mut head);
        let (object, image) = truth.with_head(&encoded(&head));
        assert_eq!(take(&truth, &object, &image).await, Taken::Unsound, "{what}");
    }
    let harmless: [Make; 3] = [
        ("the next segment", |head| head.next_segment = SegmentId(u64::MAX)),
        ("the LSN", |head| head.lsn = Lsn(u64::MAX)),
        ("roots that are not their own", |head| head.roots.iter_mut().for_each(|(_, bytes)| bytes.0.push(0))),
    ];
    for (what, make) in harmless {
        let mut head = truth.head.clone();
        make(&mut head);
        let (object, image) = truth.with_head(&encoded(&head));
        assert_eq!(take(&truth, &object, &image).await, Taken::Sound, "{what}");
    }
}

/// A head that leads to itself.
#[tokio::test]
async fn a_head_is_no_page() {
    let truth = Truth::new(&mut Random(1, 40), 300).await;
    let place = truth.image.head;
    let mut head = truth.head.clone();
    head.tree.inodes.page = Some(place);
    let (object, image) = truth.with_head(&encoded(&head));
    assert_eq!(take(&truth, &object, &image).await, Taken::Refused);
    // With the head of another image, whose hash can be known.
    let both = [&truth.object[..], &encoded(&head)].concat();
    let head = page_ref(place.object, truth.object.len() as u32, &both[truth.object.len()..]);
    assert_eq!(take(&truth, &both.into(), &PagedImage { of: FIRST, head }).await, Taken::Refused);
}

/// Writes the pages of an image again, some of them changed; those above have the hashes of what they then lead to.
struct Forger<'a> {
    from: &'a Bytes,
    rng: Rng,
    /// One in so many pages is changed.
    rarely: u64,
    out: Vec<u8>,
    pages: Vec<PageRef>,
}

impl Forger<'_> {
    fn root<K: Key + Paged<V>, V: Value + Column>(&mut self, root: &mut Root) {
        root.page = root.page.map(|page| self.page::<K, V>(&page));
    }

    fn page<K: Key + Paged<V>, V: Value + Column>(&mut self, page: &PageRef) -> PageRef {
        let start = page.offset as usize;
        let bytes = self.from.slice(start..start + page.len as usize);
        let mut parts: NodeParts<K, V> = decode_page(&bytes, page).unwrap();
        if let NodeParts::Branch { children, .. } = &mut parts {
            for child in children {
                *child = self.page::<K, V>(child);
            }
        }
        if self.rng.below(self.rarely) > 0 {
            return self.put(&encode(&parts));
        }
        match self.rng.below(6) {
            // Another page in its place.
            0 if !self.pages.is_empty() => *self.rng.pick(&self.pages),
            // A branch where none should be.
            1 => {
                let children: Vec<PageRef> = match parts {
                    NodeParts::Branch { children, .. } => children,
                    NodeParts::Leaf { .. } => vec![self.put(&encode(&parts)); 1],
                };
                let children = children[..1].to_vec();
                let level = *self.rng.pick(&[1, 2, 3, u8::MAX]);
                self.put(&encode(&NodeParts::<K, V>::Branch { level, keys: Vec::new(), children }))
            }
            // Bytes changed.
            2 | 3 => {
                let mut bytes = uncompressed(&encode(&parts));
                for _ in 0..=self.rng.below(3) {
                    let at = self.rng.index(bytes.len());
                    bytes[at] = match self.rng.below(3) {
                        0 => bytes[at] ^ (1 << self.rng.below(8)),
                        1 => bytes[at].wrapping_add(1),
                        _ => *self.rng.pick(&[0, 1, 0x7f, 0x80, 0xff]),
                    };
                }
                self.put(&bytes)
            }
            _ => {
                self.change(&mut parts);
                self.put(&encode(&parts))
            }
        }
    }

    fn change<K: Key, V: Value>(&mut self, parts: &mut NodeParts<K, V>) {
        match parts {
            NodeParts::Leaf { keys, values } if keys.is_empty() => values.clear(),
            NodeParts::Leaf { keys, values } => {
                let (one, other) = (self.rng.index(keys.len()), self.rng.index(keys.len()));
                match self.rng.below(4) {
                    0 => (*keys, *values) = (Vec::new(), Vec::new()),
                    1 => {
                        keys.remove(one);
                        values.remove(one);
                    }
                    _ => values[one] = values[other].clone(),
                }
            }
            NodeParts::Branch { level, keys, children } => {
                let (one, other) = (self.rng.index(children.len()), self.rng.index(children.len()));
                match self.rng.below(6) {
                    0 => *level = *self.rng.pick(&[1, 2, 9, u8::MAX]),
                    1 => children.swap(one, other),
                    2 => {
                        let child = children[one];
                        children.fill(child);
                    }
                    3 if !keys.is_empty() => {
                        keys.remove(one.min(keys.len() - 1));
                        children.remove(other);
                    }
                    4 if !keys.is_empty() => {
                        keys.pop();
                        children.remove(0);
                    }
                    _ => children[one] = *self.rng.pick(&self.pages),
                }
            }
        }
    }

    fn put(&mut self, page: &[u8]) -> PageRef {
        let place = page_ref(MADE_UP, self.out.len() as u32, page);
        self.out.extend(page);
        self.pages.push(place);
        place
    }
}

fn encode<K: Paged<V>, V: Column>(parts: &NodeParts<K, V>) -> Vec<u8> {
    match parts {
        NodeParts::Leaf { keys, values } => encode_leaf(keys, values),
        NodeParts::Branch { level, keys, children } => encode_branch::<K, V>(*level, keys, children),
    }
}

fn forge(truth: &Truth, seed: u64, rarely: u64) -> (Bytes, PagedImage) {
    let mut head = truth.head.clone();
    let (out, pages) = (Vec::new(), Vec::new());
    let mut forger = Forger { from: &truth.object, rng: Rng::new(seed), rarely, out, pages };
    let tree = &mut head.tree;
    forger.root::<Ino, Inode>(&mut tree.inodes);
    forger.root::<EntryKey, Entry>(&mut tree.entries);
    forger.root::<(Ino, Cookie), Name>(&mut tree.listing);
    forger.root::<(Ino, Ino, Cookie), ()>(&mut tree.links);
    forger.root::<(Ino, u64), Extent>(&mut tree.extents);
    forger.root::<(Ino, XattrName), XattrValue>(&mut tree.xattrs);
    forger.root::<SegmentId, u64>(&mut tree.segments);
    forger.root::<SegmentId, StoredSegment>(&mut head.segments);
    forger.root::<PageObject, u64>(&mut head.objects);
    head.roots.clear();
    with_head(&forger.out, MADE_UP, &encoded(&head))
}

#[tokio::test]
async fn garbled_pages() {
    let mut taken = [0; 3];
    for (ops, tries, rarely) in [(60, 1500, 8), (3000, 250, 30)] {
        let truth = Truth::new(&mut Random(ops as u64, ops as u64 / 4), ops).await;
        let (object, image) = forge(&truth, 0, u64::MAX);
        assert_eq!(take(&truth, &object, &image).await, Taken::Sound);
        for seed in 0..tries {
            let (object, image) = forge(&truth, seed, rarely);
            taken[take(&truth, &object, &image).await as usize] += 1;
        }
    }
    assert!(taken.iter().all(|count| *count > 50), "{taken:?} were refused, unsound, sound");
}

/// Branches whose children are all the same one, on as many levels as there are: few bytes that stand for more keys
/// than anybody could visit.
#[tokio::test]
async fn a_page_that_stands_for_many() {
    let truth = Truth::new(&mut Random(1, 40), 300).await;
    let keys: Vec<SegmentId> = (1..512).map(SegmentId).collect();
    for (leaf_keys, keys) in [(vec![], keys.clone()), (vec![SegmentId(0)], keys), (vec![], Vec::new())] {
        let mut forger =
            Forger { from: &truth.object, rng: Rng::new(1), rarely: 1, out: Vec::new(), pages: Vec::new() };
        let values = vec![7_u64; leaf_keys.len()];
        let mut page = forger.put(&encode_leaf(&leaf_keys, &values));
        for level in 1..=u8::MAX {
            let children = vec![page; keys.len() + 1];
            page = forger.put(&encode_branch::<SegmentId, u64>(level, &keys, &children));
        }
        let mut head = truth.head.clone();
        head.tree.segments = Root { page: Some(page), height: u8::MAX, len: 1 << 40 };
        let sim = SimStore::new(CrashPlan::never());
        sim.set_object(&Path::from(KEYS.pages_of(MADE_UP)), Bytes::from(forger.out));
        let (object, image) = truth.with_head(&encoded(&head));
        sim.set_object(&Path::from(KEYS.pages_of(image.head.object)), object);
        match read_all(&sim, &image).await {
            Ok((_, tree)) => assert!(tree.check().is_err()),
            Err(error) => refused(&error),
        }
    }
}
