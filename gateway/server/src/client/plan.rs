//! What is still to be sent: the files of the command against what the server already has.
//! Pure: decides, sends nothing. Every decision is a function of its arguments, so that a run after
//! a crash, on another day or another machine decides the same.

use std::collections::{BTreeMap, HashMap};

use pli_api::{Document, DocumentId, DocumentState, PendingUpload, UploadId, UploadKind};

use super::files::Source;
use super::{Failure, texts};

/// Above this, a file is sent in several parts at once.
const SPLIT_ABOVE: u64 = 256 << 20;
/// Parts are cut at multiples of the server's segments, so that none is left half full.
const ALIGN: u64 = 16 << 20;

/// Metadata keys by which an upload is recognised again; `filename` and `deposit` are the server's.
pub(super) const MODIFIED: &str = "modified";
pub(super) const PART: &str = "part";
pub(super) const SIZE: &str = "size";

/// An upload that the server has, and its durable offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) id: UploadId,
    pub(super) offset: u64,
}

/// A part of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) start: u64,
    pub(super) length: u64,
    pub(super) known: Option<Known>,
}

/// What one file needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing: the server has it all and only its digest is awaited.
    Present(DocumentId),
    Whole(Option<Known>),
    Parts(Vec<Part>),
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// One for each source, in order.
    pub(super) steps: Vec<Step>,
    /// Uploads that nothing can be done with.
    pub(super) stale: Vec<UploadId>,
    /// Bytes of the sources that the server has promised room for already.
    pub(super) reserved: u64,
    /// Bytes that need not be sent again.
    pub(super) present: u64,
}

/// # Errors
/// When the draft holds something that can never become what is to be sent.
pub(super) fn plan(
    sources: &[Source],
    documents: &[Document],
    uploads: &[PendingUpload],
    streams: usize,
) -> Result<Plan, Failure> {
    let index: HashMap<&str, usize> = sources.iter().enumerate().map(|(i, s)| (s.name.as_str(), i)).collect();
    let mut present: Vec<Option<DocumentId>> = vec![None; sources.len()];
    for document in documents {
        let source = index.get(document.name.as_str()).and_then(|i| sources.get(*i).zip(present.get_mut(*i)));
        let Some((source, place)) = source else {
            return Err(Failure::Refused(texts::foreign_document(&document.name)));
        };
        match document.state {
            // Its upload, if there is one, is in the other list.
            DocumentState::Receiving => {}
            DocumentState::Damaged => return Err(Failure::Digest(texts::damaged_draft(&document.name))),
            DocumentState::Finishing | DocumentState::Available if place.is_none() => {
                if document.size.is_some_and(|size| size != source.size) {
                    let size = document.size.unwrap_or_default();
                    return Err(Failure::Digest(texts::size_differs(&source.name, source.size, size)));
                }
                *place = Some(document.id);
            }
            // A second one of that name, or one that is erased.
            _ => return Err(Failure::Refused(texts::foreign_document(&document.name))),
        }
    }

    let mut stale = Vec::new();
    let mut wholes: HashMap<usize, &PendingUpload> = HashMap::new();
    // By source, then by number of parts, then by part.
    let mut parts: HashMap<usize, BTreeMap<usize, BTreeMap<usize, &PendingUpload>>> = HashMap::new();
    for upload in uploads {
        let place = match recognise(upload, sources, &index) {
            Some((i, _)) if present.get(i).is_some_and(Option::is_some) => None,
            Some((i, Shape::Whole)) => Some(wholes.entry(i).or_insert(upload)),
            Some((i, Shape::Part { number, of })) => {
                Some(parts.entry(i).or_default().entry(of).or_default().entry(number).or_insert(upload))
            }
            None => None,
        };
        match place {
            // The first of its place, or further than the one before it.
            Some(kept) if kept.id == upload.id => {}
            Some(kept) if upload.offset > kept.offset => stale.push(std::mem::replace(kept, upload).id),
            _ => stale.push(upload.id),
        }
    }

    let mut plan = Plan { steps: Vec::with_capacity(sources.len()), stale, reserved: 0, present: 0 };
    for (i, source) in sources.iter().enumerate() {
        let parted = parts.remove(&i).unwrap_or_default();
        let step = match (present.get(i).copied().flatten(), wholes.get(&i)) {
            (Some(document), _) => {
                plan.reserved += source.size;
                plan.present += source.size;
                Step::Present(document)
            }
            (None, Some(upload)) => {
                plan.stale.extend(parted.into_values().flat_map(BTreeMap::into_values).map(|u| u.id));
                plan.reserved += source.size;
                plan.present += upload.offset;
                Step::Whole(Some(Known { id: upload.id, offset: upload.offset }))
            }
            (None, None) => plan.parts(source, parted, streams),
        };
        plan.steps.push(step);
    }
    Ok(plan)
}

impl Plan {
    /// Keeps the cut that has the most bytes on the server; without one, cuts for `streams`.
    fn parts(
        &mut self,
        source: &Source,
        cuts: BTreeMap<usize, BTreeMap<usize, &PendingUpload>>,
        streams: usize,
    ) -> Step {
        let best = cuts
            .iter()
            .max_by_key(|(_, parts)| parts.values().map(|u| u.offset).sum::<u64>())
            .map(|(of, _)| *of);
        let lengths = split(source.size, best.unwrap_or(streams));
        let mut start = 0;
        let mut steps: Vec<Part> = Vec::with_capacity(lengths.len());
        for length in lengths {
            steps.push(Part { start, length, known: None });
            start += length;
        }
        for (of, parts) in cuts {
            for (number, upload) in parts {
                match steps.get_mut(number - 1).filter(|_| Some(of) == best) {
                    Some(step) => {
                        step.known = Some(Known { id: upload.id, offset: upload.offset });
                        self.reserved += step.length;
                        self.present += upload.offset;
                    }
                    None => self.stale.push(upload.id),
                }
            }
        }
        if steps.len() < 2 { Step::Whole(None) } else { Step::Parts(steps) }
    }
}

enum Shape {
    Whole,
    /// From 1.
    Part {
        number: usize,
        of: usize,
    },
}

/// Which source an upload is for, when it was made by this program for the file as it is now.
fn recognise(
    upload: &PendingUpload,
    sources: &[Source],
    index: &HashMap<&str, usize>,
) -> Option<(usize, Shape)> {
    let get = |key: &str| upload.metadata.get(key).map(String::as_str);
    let i = *index.get(get("filename")?)?;
    let source = sources.get(i)?;
    if get(MODIFIED)? != source.modified.to_string() {
        return None;
    }
    match upload.kind {
        UploadKind::Whole if upload.size == Some(source.size) && upload.offset <= source.size => {
            Some((i, Shape::Whole))
        }
        UploadKind::Partial if get(SIZE)? == source.size.to_string() => {
            let (number, of) = get(PART)?.split_once('/')?;
            let (number, of) = (number.parse::<usize>().ok()?, of.parse::<usize>().ok()?);
            if of > 1024 {
                return None;
            }
            let lengths = split(source.size, of);
            let length = *lengths.get(number.checked_sub(1)?)?;
            let fits =
                lengths.len() == of && of > 1 && upload.size == Some(length) && upload.offset <= length;
            fits.then_some((i, Shape::Part { number, of }))
        }
        _ => None,
    }
}

/// Lengths of the parts of a file: equal but for the last, at most `streams` of them. Cutting again
/// in as many parts as came out gives the same lengths.
pub(super) fn split(size: u64, streams: usize) -> Vec<u64> {
    let streams = u64::try_from(streams.max(1)).unwrap_or(u64::MAX);
    if size <= SPLIT_ABOVE || streams == 1 {
        return vec![size];
    }
    let length = size.div_ceil(streams).div_ceil(ALIGN) * ALIGN;
    let full = size / length;
    let rest = size % length;
    let mut lengths = vec![length; usize::try_from(full).unwrap_or(usize::MAX)];
    if rest > 0 {
        lengths.push(rest);
    }
    lengths
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn sources() -> Vec<Source> {
        let root = tempfile::tempdir().unwrap();
        let sizes = [("a.pdf", 10), ("big.bin", 3 << 30), ("c.pdf", 30)];
        for (name, size) in sizes {
            std::fs::File::create(root.path().join(name)).unwrap().set_len(size).unwrap();
        }
        let paths: Vec<_> = sizes.iter().map(|(name, _)| root.path().join(name)).collect();
        super::super::files::find(&paths).unwrap().sources
    }

    fn document(name: &str, size: u64, state: &str) -> Document {
        let id = DocumentId::new();
        let deposit = pli_api::DepositId::new();
        let value = json!({"id": id, "deposit": deposit, "name": name, "media_type": "x/y", "size": size, "sha256": null, "state": state});
        serde_json::from_value(value).unwrap()
    }

    fn upload(source: &Source, kind: &str, size: u64, offset: u64, part: Option<&str>) -> PendingUpload {
        let mut metadata = json!({"filename": source.name, "modified": source.modified.to_string()});
        if let Some(part) = part {
            metadata["part"] = json!(part);
            metadata["size"] = json!(source.size.to_string());
        }
        let value = json!({"id": UploadId::new(), "kind": kind, "name": source.name, "deposit": null, "size": size, "offset": offset,
            "metadata": metadata, "created": "2026-11-21T22:40:00Z", "expires": "2026-11-28T22:40:00Z"});
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn parts_cover_the_file_and_cutting_again_is_the_same() {
        let mut sizes =
            vec![0, 1, SPLIT_ABOVE, SPLIT_ABOVE + 1, (3 << 30) + 12_345, 100_000_000_000, 1 << 44];
        sizes.extend((0..200).map(|i| SPLIT_ABOVE + i * 7_654_321));
        for size in sizes {
            for streams in [1, 2, 3, 4, 7, 16, 64] {
                let lengths = split(size, streams);
                assert_eq!(lengths.iter().sum::<u64>(), size);
                assert!(lengths.len() <= streams);
                assert!(size == 0 || lengths.iter().all(|l| *l > 0));
                assert!(lengths.iter().rev().skip(1).all(|l| l % ALIGN == 0 && *l == lengths[0]));
                assert_eq!(split(size, lengths.len()), lengths, "{size} {streams}");
            }
        }
    }

    #[test]
    fn nothing_there() {
        let sources = sources();
        let plan = plan(&sources, &[], &[], 4).unwrap();
        assert_eq!(plan.steps[0], Step::Whole(None));
        let Step::Parts(parts) = &plan.steps[1] else { unreachable!("{plan:?}") };
        assert_eq!(parts.len(), 4);
        assert_eq!(parts[3].start + parts[3].length, 3 << 30);
        assert_eq!((plan.present, plan.reserved, plan.stale.len()), (0, 0, 0));
    }

    #[test]
    fn what_is_there_is_continued() {
        let sources = sources();
        let documents = [document("a.pdf", 10, "finishing"), document("c.pdf", 30, "receiving")];
        let part = split(3 << 30, 6)[0];
        let uploads = [
            upload(&sources[2], "whole", 30, 12, None),
            upload(&sources[1], "partial", part, 5, Some("2/6")),
            upload(&sources[1], "partial", part, part, Some("1/6")),
        ];
        // The cut of before counts, not the streams of now.
        for streams in [1, 4, 9] {
            let plan = plan(&sources, &documents, &uploads, streams).unwrap();
            assert_eq!(plan.steps[0], Step::Present(documents[0].id));
            assert_eq!(plan.steps[2], Step::Whole(Some(Known { id: uploads[0].id, offset: 12 })));
            let Step::Parts(parts) = &plan.steps[1] else { unreachable!("{plan:?}") };
            assert_eq!(parts.len(), 6);
            assert_eq!(parts[0].known, Some(Known { id: uploads[2].id, offset: part }));
            assert_eq!(parts[1].known, Some(Known { id: uploads[1].id, offset: 5 }));
            assert_eq!(parts[2].known, None);
            assert_eq!(plan.present, 10 + 12 + 5 + part);
            assert_eq!(plan.reserved, 10 + 30 + 2 * part);
            assert!(plan.stale.is_empty());
        }
    }

    #[test]
    fn what_does_not_fit_is_stale() {
        let sources = sources();
        let mut touched = upload(&sources[0], "whole", 10, 5, None);
        touched.metadata.insert(MODIFIED.into(), "1".into());
        let part = split(3 << 30, 4)[0];
        let uploads = [
            touched,
            upload(&sources[2], "whole", 31, 5, None),
            upload(&sources[2], "whole", 30, 5, None),
            upload(&sources[2], "whole", 30, 6, None),
            upload(&sources[1], "partial", part, 7, Some("1/4")),
            upload(&sources[1], "partial", split(3 << 30, 2)[0], 6, Some("1/2")),
            upload(&sources[1], "partial", part, 0, Some("5/4")),
            upload(&sources[1], "partial", part, 0, Some("0/4")),
            upload(&sources[1], "partial", part, 0, Some("1/99999999999")),
            upload(&sources[0], "partial", 10, 0, Some("1/1")),
        ];
        let plan = plan(&sources, &[], &uploads, 4).unwrap();
        assert_eq!(plan.steps[0], Step::Whole(None));
        assert_eq!(plan.steps[2], Step::Whole(Some(Known { id: uploads[3].id, offset: 6 })));
        let Step::Parts(parts) = &plan.steps[1] else { unreachable!("{plan:?}") };
        assert_eq!(parts[0].known, Some(Known { id: uploads[4].id, offset: 7 }));
        let mut stale = plan.stale.clone();
        stale.sort();
        let mut expected: Vec<_> = [0, 1, 2, 5, 6, 7, 8, 9].iter().map(|i: &usize| uploads[*i].id).collect();
        expected.sort();
        assert_eq!(stale, expected);
    }

    #[test]
    fn a_draft_that_cannot_become_the_deposit_is_refused() {
        let sources = sources();
        for (documents, code) in [
            (vec![document("x.pdf", 10, "available")], 3),
            (vec![document("a.pdf", 10, "damaged")], 5),
            (vec![document("a.pdf", 11, "available")], 5),
            (vec![document("a.pdf", 10, "available"), document("a.pdf", 10, "finishing")], 3),
        ] {
            assert_eq!(plan(&sources, &documents, &[], 4).unwrap_err().exit_code(), code);
        }
    }
}
