//! The objects of a bucket, and what the API does with them.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use super::http::{Answer, Request, decoded};
use crate::time;

/// Keys of one page of a listing.
const KEYS_PER_PAGE: usize = 1000;
/// The smallest part of an upload, the last one excepted.
const SMALLEST_PART: usize = 5 << 20;
/// The most parts of an upload.
const MOST_PARTS: u32 = 10_000;

#[derive(Debug)]
pub(super) struct Bucket {
    name: String,
    objects: BTreeMap<String, Object>,
    uploads: HashMap<String, Upload>,
    /// The newest generation that was given out, which part and upload tags are made of too.
    generation: u64,
}

#[derive(Debug, Clone)]
struct Object {
    data: Arc<Vec<u8>>,
    generation: u64,
    modified: Duration,
}

#[derive(Debug)]
struct Upload {
    key: String,
    parts: BTreeMap<u32, (String, Vec<u8>)>,
}

impl Bucket {
    pub(super) fn new(name: &str) -> Self {
        Self { name: name.to_owned(), objects: BTreeMap::new(), uploads: HashMap::new(), generation: 0 }
    }

    pub(super) fn answer(&mut self, request: Request) -> Answer {
        let path = request.path.trim_start_matches('/');
        let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
        if decoded(bucket) != self.name {
            return Answer::refusal(404, "NoSuchBucket");
        }
        let key = decoded(key);
        let upload = request.query("uploadId").map(str::to_owned);
        match (request.method.as_str(), upload) {
            ("GET", _) if key.is_empty() => self.list(&request),
            _ if key.is_empty() => Answer::refusal(405, "MethodNotAllowed"),
            ("POST", None) if request.query("uploads").is_some() => self.begin(key),
            ("PUT", Some(upload)) => self.part(&key, &upload, request),
            ("POST", Some(upload)) => self.complete(&key, &upload, &request),
            ("DELETE", Some(upload)) => match self.uploads.remove(&upload) {
                Some(_) => Answer::new(204, ""),
                None => Answer::refusal(404, "NoSuchUpload"),
            },
            ("PUT", None) => self.put(key, request),
            ("DELETE", None) => self.delete(&key, &request),
            ("GET" | "HEAD", None) => self.get(&key, &request),
            _ => Answer::refusal(405, "MethodNotAllowed"),
        }
    }

    /// Whether the condition of the request holds, if it has one: generation 0 stands for no object.
    fn holds(&self, key: &str, request: &Request) -> bool {
        let condition = request.header("x-goog-if-generation-match");
        let current = self.objects.get(key).map_or(0, |object| object.generation);
        condition.is_none_or(|wanted| wanted.parse() == Ok(current))
    }

    fn put(&mut self, key: String, request: Request) -> Answer {
        if request.header("x-goog-copy-source").is_some() {
            return Answer::refusal(501, "NotImplemented");
        }
        if !self.holds(&key, &request) {
            return Answer::refusal(412, "PreconditionFailed");
        }
        let object = self.store(key, request.body);
        tagged(Answer::new(200, ""), &object)
    }

    fn store(&mut self, key: String, data: Vec<u8>) -> Object {
        self.generation += 1;
        let object =
            Object { data: Arc::new(data), generation: self.generation, modified: time::since_1970() };
        self.objects.insert(key, object.clone());
        object
    }

    fn delete(&mut self, key: &str, request: &Request) -> Answer {
        if !self.holds(key, request) {
            return Answer::refusal(412, "PreconditionFailed");
        }
        match self.objects.remove(key) {
            Some(_) => Answer::new(204, ""),
            None => Answer::refusal(404, "NoSuchKey"),
        }
    }

    fn get(&self, key: &str, request: &Request) -> Answer {
        let Some(object) = self.objects.get(key) else { return Answer::refusal(404, "NoSuchKey") };
        let size = object.data.len();
        let range = request.header("range").and_then(|range| range.strip_prefix("bytes="));
        let answer = match range.and_then(|range| range.split_once('-')) {
            None => Answer::of(200, Arc::clone(&object.data), 0..size),
            Some((first, last)) => {
                let (first, end) = match (first.parse::<usize>(), last.parse::<usize>()) {
                    (Ok(first), Ok(last)) => (first, last.saturating_add(1).min(size)),
                    (Ok(first), Err(_)) => (first, size),
                    (Err(_), Ok(suffix)) => (size.saturating_sub(suffix), size),
                    (Err(_), Err(_)) => return Answer::refusal(400, "InvalidArgument"),
                };
                if first >= end {
                    let refusal = Answer::refusal(416, "InvalidRange");
                    return refusal.with("Content-Range", format_args!("bytes */{size}"));
                }
                Answer::of(206, Arc::clone(&object.data), first..end)
                    .with("Content-Range", format_args!("bytes {first}-{}/{size}", end - 1))
            }
        };
        tagged(answer, object).with("Last-Modified", Date(object.modified).http())
    }

    fn begin(&mut self, key: String) -> Answer {
        self.generation += 1;
        let id = format!("upload-{}", self.generation);
        let body = format!(
            "<?xml version='1.0' encoding='UTF-8'?><InitiateMultipartUploadResult><Bucket>{}</Bucket><Key>{}</Key>\
             <UploadId>{id}</UploadId></InitiateMultipartUploadResult>",
            self.name,
            escaped(&key)
        );
        self.uploads.insert(id, Upload { key, parts: BTreeMap::new() });
        Answer::new(200, body)
    }

    fn part(&mut self, key: &str, upload: &str, request: Request) -> Answer {
        let number = request.query("partNumber").and_then(|number| number.parse().ok()).unwrap_or(0);
        if !(1..=MOST_PARTS).contains(&number) {
            return Answer::refusal(400, "InvalidArgument");
        }
        self.generation += 1;
        let tag = format!("\"part-{}\"", self.generation);
        let Some(upload) = self.uploads.get_mut(upload).filter(|upload| upload.key == key) else {
            return Answer::refusal(404, "NoSuchUpload");
        };
        upload.parts.insert(number, (tag.clone(), request.body));
        Answer::new(200, "").with("ETag", tag)
    }

    fn complete(&mut self, key: &str, id: &str, request: &Request) -> Answer {
        let Some(upload) = self.uploads.get(id).filter(|upload| upload.key == key) else {
            return Answer::refusal(404, "NoSuchUpload");
        };
        let asked = String::from_utf8_lossy(&request.body).into_owned();
        let mut data = Vec::new();
        let mut before = 0;
        let parts: Vec<&str> = asked.split("<Part>").skip(1).collect();
        if parts.is_empty() {
            return Answer::refusal(400, "InvalidRequest");
        }
        for (index, part) in parts.iter().enumerate() {
            let number = element(part, "PartNumber").parse().unwrap_or(0);
            if number <= before {
                return Answer::refusal(400, "InvalidPartOrder");
            }
            before = number;
            let tag = element(part, "ETag").replace("&quot;", "\"");
            match upload.parts.get(&number) {
                Some((known, _)) if known.trim_matches('"') != tag.trim_matches('"') => {
                    return Answer::refusal(400, "InvalidPart");
                }
                None => return Answer::refusal(400, "InvalidPart"),
                Some((_, bytes)) if index + 1 < parts.len() && bytes.len() < SMALLEST_PART => {
                    return Answer::refusal(400, "EntityTooSmall");
                }
                Some((_, bytes)) => data.extend_from_slice(bytes),
            }
        }
        if !self.holds(key, request) {
            return Answer::refusal(412, "PreconditionFailed");
        }
        self.uploads.remove(id);
        let object = self.store(key.to_owned(), data);
        let body = format!(
            "<?xml version='1.0' encoding='UTF-8'?><CompleteMultipartUploadResult><Bucket>{}</Bucket><Key>{}</Key>\
             <ETag>&quot;{}&quot;</ETag></CompleteMultipartUploadResult>",
            self.name,
            escaped(key),
            object.generation
        );
        tagged(Answer::new(200, body), &object)
    }

    fn list(&self, request: &Request) -> Answer {
        let prefix = request.query("prefix").unwrap_or_default();
        let most = request.query("max-keys").and_then(|most| most.parse().ok()).unwrap_or(KEYS_PER_PAGE);
        let most = most.clamp(1, KEYS_PER_PAGE);
        let after = request.query("continuation-token").or(request.query("start-after"));
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let delimiter = request.query("delimiter").filter(|delimiter| !delimiter.is_empty());
        let (mut lines, mut count, mut last, mut more) = (String::new(), 0, "", false);
        let mut common: Option<&str> = None;
        for (key, object) in self.objects.range::<str, _>((from, Bound::Unbounded)) {
            if !key.starts_with(prefix) {
                break;
            }
            let end = delimiter
                .and_then(|delimiter| key[prefix.len()..].find(delimiter).map(|at| at + delimiter.len()));
            let directory = end.map(|end| &key[..prefix.len() + end]);
            let told = directory.is_some_and(|directory| {
                common == Some(directory) || after.is_some_and(|after| after.starts_with(directory))
            });
            if told {
                last = key;
                continue;
            }
            if count == most {
                more = true;
                break;
            }
            // Writing to a string does not fail.
            let _ = if let Some(directory) = directory {
                common = Some(directory);
                write!(lines, "<CommonPrefixes><Prefix>{}</Prefix></CommonPrefixes>", escaped(directory))
            } else {
                write!(
                    lines,
                    "<Contents><Key>{}</Key><Generation>{generation}</Generation><LastModified>{}</LastModified>\
                     <ETag>&quot;{generation}&quot;</ETag><Size>{}</Size></Contents>",
                    escaped(key),
                    Date(object.modified).iso(),
                    object.data.len(),
                    generation = object.generation,
                )
            };
            (count, last) = (count + 1, key);
        }
        let token = if more {
            format!("<NextContinuationToken>{}</NextContinuationToken>", escaped(last))
        } else {
            String::new()
        };
        Answer::new(
            200,
            format!(
                "<?xml version='1.0' encoding='UTF-8'?><ListBucketResult><Name>{}</Name><Prefix>{}</Prefix>\
                 <KeyCount>{count}</KeyCount><IsTruncated>{more}</IsTruncated>{token}{lines}</ListBucketResult>",
                self.name,
                escaped(prefix)
            ),
        )
    }
}

fn tagged(answer: Answer, object: &Object) -> Answer {
    answer
        .with("ETag", format_args!("\"{}\"", object.generation))
        .with("x-goog-generation", object.generation)
        .with("x-goog-metageneration", 1)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// The text of the first element of this name, or nothing.
fn element<'a>(xml: &'a str, name: &str) -> &'a str {
    let begun = xml.split_once(&format!("<{name}>")).map_or("", |(_, rest)| rest);
    begun.split_once(&format!("</{name}>")).map_or("", |(text, _)| text)
}

/// A time since 1970, as it is written.
struct Date(Duration);

impl Date {
    /// Year, month and day, and the day of the week from Sunday, in the proleptic Gregorian calendar.
    fn day(&self) -> (u64, u64, u64, usize) {
        let days = self.0.as_secs() / 86_400;
        // Years begin in March here, so that the day that leap years have more is their last.
        let shifted = days + 719_468;
        let (era, of_era) = (shifted / 146_097, shifted % 146_097);
        let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year + year / 4 - year / 100);
        let month = (5 * of_year + 2) / 153;
        let day = of_year - (153 * month + 2) / 5 + 1;
        let month = if month < 10 { month + 3 } else { month - 9 };
        (era * 400 + year + u64::from(month <= 2), month, day, ((days + 4) % 7) as usize)
    }

    fn time(&self) -> String {
        let seconds = self.0.as_secs() % 86_400;
        format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
    }

    /// `2026-11-30T22:01:02.345Z`
    fn iso(&self) -> String {
        let (year, month, day, _) = self.day();
        format!("{year:04}-{month:02}-{day:02}T{}.{:03}Z", self.time(), self.0.subsec_millis())
    }

    /// `Mon, 30 Nov 2026 22:01:02 GMT`
    fn http(&self) -> String {
        const DAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
        const MONTHS: [&str; 12] =
            ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        let (year, month, day, weekday) = self.day();
        let month = MONTHS.get(month as usize - 1).copied().unwrap_or_default();
        format!("{}, {day:02} {month} {year:04} {} GMT", DAYS[weekday], self.time())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        let date = Date(Duration::from_millis(1_796_076_062_345));
        assert_eq!(date.iso(), "2026-11-30T22:01:02.345Z");
        assert_eq!(date.http(), "Mon, 30 Nov 2026 22:01:02 GMT");
        let leap = Date(Duration::from_secs(951_782_400));
        assert_eq!(leap.http(), "Tue, 29 Feb 2000 00:00:00 GMT");
    }
}
